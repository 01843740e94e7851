"""PNG out is exact; PNG in is checked before it is trusted."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from sam_service.errors import InvalidInput, TooLarge
from sam_service.masks.png import decode_png, encode_png, from_base64, plain_png, to_base64

MASK = np.zeros((7, 9), np.bool_)
MASK[2:5, 3:8] = True
MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(MASKS)
def test_round_trip(mask: npt.NDArray[np.bool_]) -> None:
    assert np.array_equal(decode_png(from_base64(to_base64(encode_png(mask)))), mask)


def test_what_is_written_is_8_bit_grey_0_and_255() -> None:
    image = Image.open(io.BytesIO(encode_png(MASK)))
    assert (image.mode, image.size) == ("L", (9, 7))
    assert np.array_equal(np.asarray(image), MASK.astype(np.uint8) * 255)


def test_a_mask_that_is_a_view_is_written_right() -> None:
    assert np.array_equal(decode_png(encode_png(MASK.T)), MASK.T)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def palette() -> Image.Image:
    image = Image.fromarray(MASK.astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0])
    image.putdata(MASK.astype(np.uint8).ravel().tolist())
    return image


def transparent() -> Image.Image:
    pixels = np.full((7, 9, 4), 200, np.uint8)
    pixels[..., 3] = MASK * np.uint8(255)
    return Image.fromarray(pixels)


GREY = Image.fromarray(MASK.astype(np.uint8) * 255)
KINDS = {
    "grey": GREY,
    "grey 0 and 1": Image.fromarray(MASK.astype(np.uint8)),
    "grey and alpha": GREY.convert("LA"),
    "1 bit": GREY.convert("1"),
    "16 bit": Image.fromarray(MASK.astype(np.uint16)),
    "palette": palette(),
    "rgb": GREY.convert("RGB"),
    "rgba": GREY.convert("RGBA"),
    "painted on transparent": transparent(),
}


@pytest.mark.parametrize("image", KINDS.values(), ids=KINDS.keys())
def test_every_kind_of_png_is_understood(image: Image.Image) -> None:
    assert np.array_equal(decode_png(png(image)), MASK)


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    for candidate in (data, encode_png(MASK)[:33] + data):
        with pytest.raises(InvalidInput) as caught:
            decode_png(candidate)
        assert caught.value.field == "mask"


@given(st.data())
def test_a_damaged_png_is_refused(data: st.DataObject) -> None:
    whole = bytearray(encode_png(MASK))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises((InvalidInput, TooLarge)):
        decode_png(bytes(whole))
    with pytest.raises(InvalidInput):
        decode_png(encode_png(MASK)[:position])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_bomb_is_refused_by_its_header() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    with pytest.raises(TooLarge) as caught:
        decode_png(bomb)
    assert caught.value.field == "mask"


def test_too_little_data_for_the_size_is_refused() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
    short = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(65 * 3))) + chunk(b"IEND", b"")
    with pytest.raises(InvalidInput):
        decode_png(short)


def test_data_url() -> None:
    text = to_base64(b"abc")
    assert from_base64(f"data:image/png;base64,{text}") == b"abc"
    for url in (f"data:image/png,{text}", "data:image/png;base64", "data:"):
        with pytest.raises(InvalidInput):
            from_base64(url)


@pytest.mark.parametrize("text", ["", "a", "ab=", "YW Jj", "YWJj\n", "YWJj!", "YW-_", "äöü=", "===="])
def test_base64_is_strict(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        from_base64(text)
    assert caught.value.field == "mask"


def test_base64_has_a_limit() -> None:
    assert from_base64(to_base64(bytes(100)), max_bytes=100) == bytes(100)
    for size in (101, 10_000):
        with pytest.raises(TooLarge):
            from_base64(base64.b64encode(bytes(size)).decode(), max_bytes=100)


def by_hand(pixels: bytes, *between: bytes, interlaced: bool = False) -> bytes:
    """A grey PNG of MASK's size."""
    header = struct.pack(">IIBBBBB", 9, 7, 8, 0, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(between) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(
        b"IEND", b"")


ROWS = b"".join(b"\0" + row.tobytes() for row in MASK)


def test_only_the_picture_reaches_the_decoder() -> None:
    bomb = zlib.compress(b"a" * (1 << 20))
    given = by_hand(ROWS, chunk(b"zTXt", b"k\0\0" + bomb), chunk(b"iCCP", b"x\0\0" + bomb), chunk(b"acTL", bytes(8)))
    assert plain_png(given) == by_hand(ROWS)
    assert np.array_equal(decode_png(given), MASK)


@pytest.mark.parametrize("pixels", [ROWS + b"\0", ROWS + bytes(100 << 20), ROWS[:-1], b""])
def test_more_or_fewer_pixels_than_the_header_says(pixels: bytes) -> None:
    with pytest.raises(InvalidInput, match="damaged"):
        decode_png(by_hand(pixels))


def test_an_interlaced_mask() -> None:
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(b"\0" + row.tobytes() for left, top, right, down in passes for row in MASK[top::down, left::right])
    assert np.array_equal(decode_png(by_hand(rows, interlaced=True)), MASK)


def test_a_mask_of_very_many_chunks_is_refused() -> None:
    with pytest.raises(InvalidInput, match="chunks"):
        decode_png(by_hand(ROWS, chunk(b"abCd", b"") * 10_000))
