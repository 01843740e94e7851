"""What a picture means as the mask of one object: two values, or soft edges between them. Anything else is refused.

| picture | the object is where |
| --- | --- |
| grey with 0 and one other value (bool, 0 and 1, 0 and 255) | the other value is |
| soft edges, or made from a JPEG | the value is over half of the picture's largest |
| one colour on black | the same, of the strongest channel |
| with alpha | alpha is over half of its largest and, if the colours are black and one other, that is not black |

A picture with several flat values or colours (labels of several objects), or with wide areas between object and background (a
photograph, a heat map), has no such meaning: half of it would be dropped without a word.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_service.errors import InvalidInput, TooLarge
from sam_service.masks.jpeg import plain_jpeg
from sam_service.masks.png import png_size, read_png

Picture = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
_JPEG = b"\xff\xd8\xff"
_FEW = 16  # levels of a picture that may be labels
_LEAST_PEAK = 64  # the largest of several values, in 256ths: below, they are labels
_EDGE_PX = 9  # soft edges are narrower than this
_STRAY = 0.01  # share of the object's area that may lie neither here nor there


def read_mask(data: bytes, width: int, height: int) -> npt.NDArray[np.bool_]:
    """The mask that a client's PNG or JPEG means: bool (height, width). It may be empty.

    Raises:
        InvalidInput: (field `mask`) neither PNG nor JPEG, damaged, of another size, or not the mask of one object.
        TooLarge: (field `mask`) more pixels than the frame has; nothing is decompressed then.
    """
    is_jpeg = data.startswith(_JPEG)
    data = plain_jpeg(data) if is_jpeg else data
    found = _jpeg_size(data) if is_jpeg else png_size(data)
    if found != (width, height):
        kind = TooLarge if found[0] * found[1] > width * height else InvalidInput
        raise kind(f"the mask is {found[0]} x {found[1]} pixels and has to be {width} x {height}, as the session's frames are",
                   field="mask")
    return meaning(_read_jpeg(data) if is_jpeg else read_png(data))


def meaning(picture: Picture) -> npt.NDArray[np.bool_]:
    """The mask, bool (H, W), that a grey (H, W), BGR (H, W, 3) or BGRA (H, W, 4) picture means. Raises InvalidInput."""
    if picture.ndim == 2:
        return _halved(picture)
    if picture.shape[2] == 3:
        return _of_colours(picture)
    alpha, colours = picture[..., 3], picture[..., :3]
    if alpha.min() == alpha.max():
        return _of_colours(colours) & (alpha > 0)
    visible = colours[alpha > 0]
    black = ~visible.any(axis=1)
    if black.any() and not black.all() and (visible[~black] == visible[~black][0]).all():
        return _halved(alpha) & colours.any(axis=2)
    return _halved(alpha)


def _of_colours(colours: Picture) -> npt.NDArray[np.bool_]:
    strongest = colours.max(axis=2)
    if not (colours == strongest[..., None]).all():
        strong = strongest > strongest.max() // 2
        main = np.median(colours[strong], axis=0)
        other = strong & (np.abs(colours.astype(np.int32) - main) > np.iinfo(colours.dtype).max // 4).any(axis=2)
        if _interior(other, 5).any():
            raise _unclear("it has several colours")
    return _halved(strongest)


def _halved(values: Picture) -> npt.NDArray[np.bool_]:
    """Where values are over half of the largest. Raises InvalidInput unless they are near 0 or near the largest."""
    peak = int(values.max())
    two_valued = (values == 0) | (values == peak)
    mask: npt.NDArray[np.bool_] = values > peak // 2
    if two_valued.all():
        return mask
    levels = np.flatnonzero(np.bincount(values.ravel()))
    between = levels[(levels > 0) & (levels < peak)]
    shown = ", ".join(map(str, levels[:5])) + (", …" if len(levels) > 5 else "")
    if peak * 256 < _LEAST_PEAK * (int(np.iinfo(values.dtype).max) + 1):
        raise _unclear(f"it has the values {shown}")
    low, high = peak * 0.1, peak * 0.9
    noisy = bool((between < low).any() and (between > high).any())  # as a JPEG's ringing, at both ends
    if len(levels) <= _FEW and any(_interior(values == level, 3).any() for level in between
                                   if not noisy or low <= level <= high):
        raise _unclear(f"it has the values {shown}")
    if _interior((values > low) & (values < high), _EDGE_PX).sum() > _STRAY * mask.sum():
        raise _unclear("wide areas of it lie between black and white")
    return mask


def _interior(where: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.bool_]:
    """The pixels whose neighbourhood of side x side pixels is all in `where`; what lies beyond the picture counts as in it."""
    eroded: npt.NDArray[np.bool_] = cv2.erode(where.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
    return eroded


def _unclear(what: str) -> InvalidInput:
    return InvalidInput(f"the mask is not that of one object: {what}. A mask is bool, 0 and 1, or 0 and 255; soft edges are "
                        "cut at half of the largest value", field="mask")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge("the mask has far more pixels than the session's frames", field="mask") from None
    except (OSError, ValueError, SyntaxError):
        raise InvalidInput("the mask is not a readable JPEG", field="mask") from None


def _read_jpeg(data: bytes) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if image.mode not in ("L", "RGB"):
                raise InvalidInput(f"the mask is a JPEG in {image.mode}; make it grey or RGB", field="mask")
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError):
        raise InvalidInput("the mask is not a readable JPEG", field="mask") from None
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
