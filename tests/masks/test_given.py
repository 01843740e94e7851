"""What a picture means as a mask: the one object that it shows, or an error; never something else without a word."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sam_service.errors import InvalidInput, TooLarge
from sam_service.masks.exif import require_upright
from sam_service.masks.given import meaning, read_mask
from sam_service.masks.jpeg import plain_jpeg

from tests.hostile.files import scans
from tests.support import iou

HEIGHT, WIDTH = 180, 320
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
DISC = (ROWS - 90) ** 2 + (COLUMNS - 150) ** 2 < 50**2
OTHER = (abs(ROWS - 30) < 12) & (abs(COLUMNS - 280) < 12)
Grey = npt.NDArray[np.uint8]


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def through_jpeg(picture: Grey, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encoded(Image.fromarray(picture), "JPEG", quality=quality)))


def smooth(mask: npt.NDArray[np.bool_]) -> Grey:
    """A mask with the soft edges of one that was drawn four times as large."""
    large = cv2.resize(mask.astype(np.uint8) * 255, (WIDTH * 4, HEIGHT * 4), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def with_alpha(colours: npt.NDArray[np.integer] | int, alpha: npt.NDArray[np.bool_] | Grey) -> Image.Image:
    picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    picture[..., :3] = colours
    picture[..., 3] = alpha * np.uint8(255) if alpha.dtype == bool else alpha
    return Image.fromarray(picture)


def red(mask: npt.NDArray[np.bool_], value: int = 255) -> Grey:
    return np.dstack([mask * np.uint8(value), np.zeros((HEIGHT, WIDTH, 2), np.uint8)])


WHITE = DISC * np.uint8(255)
PHOTO = np.dstack([COLUMNS % 256, ROWS, (COLUMNS + ROWS) % 256]).astype(np.uint8)
RIGHT: dict[str, Callable[[], bytes]] = {
    "0 and 255": lambda: encoded(Image.fromarray(WHITE)),
    "0 and 1": lambda: encoded(Image.fromarray(DISC.astype(np.uint8))),
    "0 and 7": lambda: encoded(Image.fromarray(DISC * np.uint8(7))),
    "bool": lambda: encoded(Image.fromarray(DISC)),
    "16 bit, 0 and 1": lambda: encoded(Image.fromarray(DISC.astype(np.uint16))),
    "16 bit, 0 and 65535": lambda: encoded(Image.fromarray(DISC * np.uint16(65535))),
    "red": lambda: encoded(Image.fromarray(red(DISC, 128))),
    "white in RGB": lambda: encoded(Image.fromarray(WHITE).convert("RGB")),
    "white in RGBA": lambda: encoded(Image.fromarray(WHITE).convert("RGBA")),
    "grey and alpha": lambda: encoded(Image.fromarray(WHITE).convert("LA")),
    "white paint on nothing": lambda: encoded(with_alpha(255, DISC)),
    "black paint on nothing": lambda: encoded(with_alpha(0, DISC)),
    "a photograph cut out": lambda: encoded(with_alpha(PHOTO, DISC)),
    "soft edges": lambda: encoded(Image.fromarray(smooth(DISC))),
    "soft edges in alpha": lambda: encoded(with_alpha(0, smooth(DISC))),
    "PNG made from JPEG": lambda: encoded(through_jpeg(WHITE, 75)),
    "PNG made from a bad JPEG": lambda: encoded(through_jpeg(WHITE, 20)),
    "PNG made from a good JPEG": lambda: encoded(through_jpeg(WHITE, 98)),
    "PNG made from a JPEG in red": lambda: encoded(through_jpeg(red(DISC), 75)),
    "JPEG": lambda: encoded(Image.fromarray(WHITE), "JPEG", quality=85),
    "JPEG in RGB": lambda: encoded(Image.fromarray(WHITE).convert("RGB"), "JPEG", quality=85),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_object_that_it_shows(name: str) -> None:
    found = read_mask(RIGHT[name](), WIDTH, HEIGHT)
    exact = not any(word in name for word in ("JPEG", "soft"))
    assert iou(found, DISC) == 1 if exact else iou(found, DISC) > 0.97


LABELS = DISC * np.uint8(1) + OTHER * np.uint8(2)
WRONG: dict[str, Callable[[], bytes]] = {
    "labels 0, 1, 2": lambda: encoded(Image.fromarray(LABELS)),
    "labels 0, 100, 200": lambda: encoded(Image.fromarray(LABELS * np.uint8(100))),
    "labels 0, 1, 255": lambda: encoded(Image.fromarray(DISC * np.uint8(1) + OTHER * np.uint8(255))),
    "labels 0, 254, 255": lambda: encoded(Image.fromarray(DISC * np.uint8(254) + OTHER * np.uint8(255))),
    "16 bit labels": lambda: encoded(Image.fromarray(DISC * np.uint16(1001) + OTHER * np.uint16(1002))),
    "forty labels": lambda: encoded(Image.fromarray((COLUMNS // 8).astype(np.uint8))),
    "two colours": lambda: encoded(Image.fromarray(red(DISC) + np.roll(red(OTHER), 1, axis=2))),
    "a photograph": lambda: encoded(Image.fromarray(PHOTO)),
    "a photograph as JPEG": lambda: encoded(Image.fromarray(PHOTO), "JPEG"),
    "a grey ramp": lambda: encoded(Image.fromarray((COLUMNS * 255 // WIDTH).astype(np.uint8))),
    "a heat map": lambda: encoded(Image.fromarray(cv2.GaussianBlur(WHITE, (0, 0), 30))),
    "CMYK": lambda: encoded(Image.fromarray(WHITE).convert("CMYK"), "JPEG"),
    "half a JPEG": lambda: encoded(Image.fromarray(WHITE), "JPEG")[:-200],
    "a JPEG's beginning": lambda: b"\xff\xd8\xff",
    "half a PNG": lambda: encoded(Image.fromarray(WHITE))[:-20],
    "a GIF": lambda: encoded(Image.fromarray(WHITE), "GIF"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_the_mask_of_one_object_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_mask(WRONG[name](), WIDTH, HEIGHT)
    assert refused.value.field == "mask"
    if name.startswith("labels"):
        assert name.removeprefix("labels ") in refused.value.message and "half of the largest" in refused.value.message


def test_a_jpeg_is_measured_before_it_is_decoded() -> None:
    with pytest.raises(TooLarge) as refused:
        read_mask(encoded(Image.fromarray(np.zeros((HEIGHT * 2, WIDTH * 2), np.uint8)), "JPEG"), WIDTH, HEIGHT)
    assert f"{WIDTH} x {HEIGHT}" in refused.value.message
    header = bytearray(encoded(Image.fromarray(WHITE), "JPEG"))
    at = header.index(b"\xff\xc0") + 5
    header[at:at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(TooLarge):
        read_mask(bytes(header), WIDTH, HEIGHT)


@given(st.binary(max_size=300))
def test_garbage_behind_the_first_bytes_of_a_jpeg(rest: bytes) -> None:
    for head in (b"\xff\xd8\xff", encoded(Image.fromarray(WHITE), "JPEG")[:200]):
        with pytest.raises((InvalidInput, TooLarge)):
            read_mask(head + rest, WIDTH, HEIGHT)


def test_nothing_and_everything() -> None:
    for shape in ((4, 5), (4, 5, 3), (4, 5, 4)):
        assert not meaning(np.zeros(shape, np.uint8)).any()
        assert meaning(np.full(shape, 255, np.uint8)).all()
        assert meaning(np.ones(shape, np.uint16)).all()


def test_a_jpeg_is_taken_with_its_comments_and_profiles() -> None:
    image = Image.fromarray(DISC.astype(np.uint8) * 255)
    given = encoded(image, "JPEG", quality=95, progressive=True, comment=b"c" * 1000, icc_profile=b"p" * 100_000)
    assert iou(read_mask(given, WIDTH, HEIGHT), DISC) > 0.99
    assert len(plain_jpeg(given)) < len(given) - 100_000


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_mask_that_its_exif_data_turn_is_refused(form: str, order: str) -> None:
    """Readers of one file differ: of a square mask both would have the right size."""
    image = Image.fromarray(DISC.astype(np.uint8) * 255)
    for orientation in range(10):
        exif = Image.Exif()
        exif.endian = order
        exif[0x010F], exif[0x0112] = "camera", orientation
        data = encoded(image, form, exif=exif)
        if 2 <= orientation <= 8:
            with pytest.raises(InvalidInput, match=f"orientation {orientation}"):
                read_mask(data, WIDTH, HEIGHT)
        else:
            assert iou(read_mask(data, WIDTH, HEIGHT), DISC) > 0.99


@given(st.binary(max_size=60))
def test_damaged_exif_data_turn_nothing(rest: bytes) -> None:
    for head in (b"", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff"):
        try:
            require_upright(head + rest)
        except InvalidInput as refused:
            assert refused.field == "mask"


def test_a_jpeg_of_many_scans_or_segments_is_refused() -> None:
    assert read_mask(scans(10), 160, 120).all()
    with pytest.raises(InvalidInput, match="64 scans"):
        read_mask(scans(100), 160, 120)
    with pytest.raises(InvalidInput, match="1000 segments"):
        read_mask(scans(0)[:2] + b"\xff\xe5\0\x02" * 1000 + scans(0)[2:], 160, 120)
    for damaged in (b"\xff\xd8\xff", b"\xff\xd8\xff\xff", b"\xff\xd8\xff\xe0\0\0", b"\xff\xd8\xff\xe0\xff\xff"):
        with pytest.raises(InvalidInput):
            read_mask(damaged, 160, 120)
