"""Masks as COCO compressed run lengths.

The format is pycocotools' (`maskApi.c`, `rleToString` and `rleFrString`): run lengths of alternating 0 and 1, starting
with 0, down the columns; from the fourth run on, the difference to the run two before; each number in groups of five
bits, one printable character a group. pycocotools writes it. It does not read it here: its decoder trusts the runs to
fill the size and writes past its buffer otherwise, so the runs are read and counted first, and are then the mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco  # type: ignore[import-untyped,unused-ignore]

from sam_service.errors import InvalidInput, TooLarge

_MAX_PIXELS = 8192 * 8192
_MAX_GROUPS = 7  # 35 bits: more than any run length in an image that fits the limits


class Rle(TypedDict):
    """A mask as COCO writes it: `size` is [height, width] in pixels, `counts` the compressed run lengths."""

    size: list[int]
    counts: str


def encode_rle(mask: npt.NDArray[np.bool_]) -> Rle:
    """Return `mask`, bool (H, W), as COCO compressed run lengths."""
    # pycocotools wants column-major memory; OpenCV's transpose makes it in a third of numpy's time.
    columns = cv2.transpose(np.ascontiguousarray(mask).view(np.uint8)).T
    encoded = coco.encode(columns)
    return {"size": [int(side) for side in mask.shape], "counts": encoded["counts"].decode("ascii")}


def decode_rle(rle: Mapping[str, Any], max_pixels: int = _MAX_PIXELS) -> npt.NDArray[np.bool_]:
    """Return the mask of `rle`: bool (H, W), contiguous.

    Raises:
        InvalidInput: (field `mask`) not a COCO compressed RLE, or its runs do not fill exactly its size.
        TooLarge: (field `mask`) its size has more than `max_pixels`.
    """
    height, width, runs = _checked(rle, max_pixels)
    columns = np.repeat(np.arange(runs.size, dtype=np.uint8) & 1, runs).reshape(width, height)
    return np.asarray(cv2.transpose(columns), np.uint8).reshape(height, width).view(np.bool_)


def rle_area(rle: Mapping[str, Any]) -> int:
    """Return the number of pixels of the object. Raises as `decode_rle` does."""
    return int(_checked(rle, _MAX_PIXELS)[2][1::2].sum())


def rle_bbox(rle: Mapping[str, Any]) -> list[int] | None:
    """Return the smallest box [x, y, width, height] in pixels around the object, None when it is empty.

    Raises as `decode_rle` does.
    """
    height, _, runs = _checked(rle, _MAX_PIXELS)
    ends = np.cumsum(runs)
    first, last = ends[:-1:2][runs[1::2] > 0], ends[1::2][runs[1::2] > 0] - 1  # of each run of ones, down the columns
    if first.size == 0:
        return None
    x, x_last = int(first[0] // height), int(last[-1] // height)
    if (first // height != last // height).any():  # a run that goes on in the next column touches top and bottom
        return [x, 0, x_last - x + 1, height]
    y = int((first % height).min())
    return [x, y, x_last - x + 1, int((last % height).max()) - y + 1]


def _checked(rle: Mapping[str, Any], max_pixels: int) -> tuple[int, int, npt.NDArray[np.int64]]:
    """Return the height, the width and the run lengths of `rle`, which fill exactly its size."""
    if not isinstance(rle, Mapping):
        raise InvalidInput("the RLE is not an object", field="mask")
    height, width = _checked_size(rle.get("size"), max_pixels)
    counts = rle.get("counts")
    if not isinstance(counts, str) or not counts.isascii():
        raise InvalidInput("the RLE's counts are not a compressed string", field="mask")
    runs = _run_lengths(counts.encode("ascii"))
    if (runs < 0).any() or (runs > height * width).any() or int(runs.sum()) != height * width:
        raise InvalidInput("the RLE's runs do not fill its size", field="mask")
    return height, width, runs


def _checked_size(size: object, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of an untrusted `size`."""
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise InvalidInput("the RLE's size is not [height, width]", field="mask")
    height, width = size
    if height * width > max_pixels:
        raise TooLarge(f"the RLE's size is {width} x {height}; the limit is {max_pixels} pixels", field="mask")
    return height, width


def _run_lengths(counts: bytes) -> npt.NDArray[np.int64]:
    """Return the run lengths that `counts` spells, int64 (runs,), as `rleFrString` reads them. They may be negative."""
    groups = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if groups.size == 0 or ((groups < 0) | (groups > 63)).any() or groups[-1] & 0x20:
        raise InvalidInput("the RLE's counts are not a compressed string", field="mask")
    last = np.flatnonzero((groups & 0x20) == 0)  # the group that ends each number
    first = np.concatenate(([0], last[:-1] + 1))
    length = last - first + 1
    if (length > _MAX_GROUPS).any():
        raise InvalidInput("the RLE's counts hold a run that is too long", field="mask")
    shift = 5 * (np.arange(groups.size) - np.repeat(first, length))
    numbers = np.add.reduceat((groups & 0x1F) << shift, first)
    numbers -= np.where(groups[last] & 0x10, np.int64(1) << (5 * length), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
