"""Masks as PNG, and PNG as base64 text."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt

from sam_service.errors import EngineError, InvalidInput, TooLarge
from sam_service.masks.exif import require_upright

# Median time and size for 1280 x 720 on one core of an AVX2 server, OpenCV 5.0: (ellipse, ragged noise)
#   level 1, strategy default, OpenCV's own filter choice   5.3 ms  7.6 kB    5.6 ms  41.7 kB
#   level 1, strategy RLE,     OpenCV's own filter choice   6.1 ms  3.0 kB    5.4 ms  22.8 kB
#   level 9, strategy default, OpenCV's own filter choice   9.9 ms  2.4 kB   60.7 ms  21.6 kB
#   level 1, strategy RLE,     filter UP                    1.5 ms  3.8 kB    1.9 ms  21.4 kB
#   level 1, strategy RLE,     filter NONE                  1.2 ms  2.3 kB    1.6 ms  23.8 kB   <- used
_PNG_PARAMS = (
    cv2.IMWRITE_PNG_COMPRESSION, 1,
    cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE,
)  # fmt: skip

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK_OVERHEAD = 12  # length, type and checksum, four bytes each
_MAX_PIXELS = 8192 * 8192
_MAX_BYTES = 16 * 1024 * 1024
_MAX_CHUNKS = 10_000
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""The chunks that make the picture. Others may unpack to megabytes each, and the decoder would do it."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of a picture: first column, first row, and the steps to the next ones."""


def encode_png(mask: npt.NDArray[np.bool_]) -> bytes:
    """Return `mask`, bool (H, W), as an 8-bit grey PNG of W x H pixels with the values 0 and 255."""
    grey = np.where(mask, np.uint8(255), np.uint8(0))
    ok, encoded = cv2.imencode(".png", grey, _PNG_PARAMS)
    if not ok:
        raise EngineError(f"a mask of shape {mask.shape} could not be encoded as PNG")
    return encoded.tobytes()


def decode_png(data: bytes, max_pixels: int = _MAX_PIXELS) -> npt.NDArray[np.bool_]:
    """Return the mask that a client's PNG means: bool (H, W).

    Grey, 1-bit, 16-bit, palette, RGB and RGBA are taken. A pixel belongs to the object when its colour is not
    black and, where there is an alpha channel, it is not fully transparent. A palette counts by its colours.

    Raises:
        InvalidInput: (field `mask`) not a PNG, damaged or cut off.
        TooLarge: (field `mask`) the header announces more than `max_pixels`; nothing is decompressed then.
    """
    width, height = png_size(data)
    if width * height > max_pixels:
        raise TooLarge(f"the mask has {width} x {height} pixels; the limit is {max_pixels} pixels", field="mask")
    image = read_png(data)
    if image.ndim == 2:
        return np.asarray(image != 0)
    mask = (image[..., :3] != 0).any(axis=2)
    if image.shape[2] == 4:
        mask &= image[..., 3] != 0
    return np.asarray(mask)


def read_png(data: bytes) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """The pixels of a client's PNG as OpenCV has them: grey (H, W), BGR (H, W, 3) or BGRA (H, W, 4). Check its size before.

    Raises InvalidInput (field `mask`) where it is damaged or cut off.
    """
    width, height = png_size(data)
    try:
        image = cv2.imdecode(np.frombuffer(plain_png(data), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != (height, width):
        raise InvalidInput("the mask is not a readable PNG", field="mask")
    return image  # type: ignore[return-value]


def png_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) in pixels from the header alone."""
    if len(data) < 33 or not data.startswith(_SIGNATURE) or data[8:16] != b"\x00\x00\x00\rIHDR":
        raise InvalidInput("the mask is neither a PNG nor a JPEG", field="mask")
    width, height = struct.unpack(">II", data[16:24])
    if width == 0 or height == 0:
        raise InvalidInput("the mask PNG has no pixels", field="mask")
    return width, height


def plain_png(data: bytes) -> bytes:
    """The same picture without texts, profiles and animation. Raises InvalidInput (field `mask`) unless every chunk is whole,
    the last one is IEND, the pixels unpack to as many bytes as the picture has, and no EXIF data turn it.

    The decoder paints what it has of a damaged file and says nothing, and unpacks what is too much to its end; so this looks
    first.
    """
    position = len(_SIGNATURE)
    kept, pixels = [_SIGNATURE], bytearray()
    for _ in range(_MAX_CHUNKS):
        if position + _CHUNK_OVERHEAD > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + _CHUNK_OVERHEAD + length
        if end > len(data):
            break
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != checksum:
            break
        if kind in _PICTURE:
            kept.append(data[position:end])
        if kind == b"eXIf":
            require_upright(data[position + 8 : end - 4])
        if kind == b"IDAT":
            pixels += data[position + 8 : end - 4]
        if kind == b"IEND":
            _check_pixels(pixels, data[16:29])
            return b"".join(kept)
        position = end
    else:
        raise InvalidInput(f"the mask PNG has more than {_MAX_CHUNKS} chunks", field="mask")
    raise InvalidInput("the mask PNG is damaged or cut off", field="mask")


def _check_pixels(packed: bytearray, header: bytes) -> None:
    """Raise InvalidInput unless the packed pixels are those of a picture with this header, unpacking no more than that."""
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _CHANNELS.get(colours, 0)
    expected = 0
    for left, top, right, down in _ADAM7 if interlaced else _WHOLE:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        expected += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    try:
        unpacked = zlib.decompressobj().decompress(packed, expected + 1)
    except zlib.error:
        unpacked = b""
    if len(unpacked) != expected:
        raise InvalidInput("the mask PNG is damaged or cut off", field="mask")


def to_base64(data: bytes) -> str:
    """Return `data` in the standard base64 alphabet, padded, without line breaks."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, max_bytes: int = _MAX_BYTES) -> bytes:
    """Return the bytes of base64 `text`; a leading `data:image/png;base64,` is dropped.

    Raises:
        InvalidInput: (field `mask`) empty, or not strict base64 (alphabet, padding, no white space).
        TooLarge: (field `mask`) more than `max_bytes` after decoding; nothing is decoded then.
    """
    if text.startswith("data:"):
        prefix, comma, text = text.partition(",")
        if not comma or not prefix.endswith(";base64"):
            raise InvalidInput("the mask's data URL is not base64", field="mask")
    if not text:
        raise InvalidInput("the mask is empty", field="mask")
    if len(text) > (max_bytes + 2) // 3 * 4:
        raise TooLarge(f"the mask is longer than {max_bytes} bytes", field="mask")
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidInput("the mask is not base64", field="mask") from None
    if len(data) > max_bytes:
        raise TooLarge(f"the mask is longer than {max_bytes} bytes", field="mask")
    return data
