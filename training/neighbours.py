"""Crowds: other objects, or copies of the object itself, pasted beside it, so that a click learns where one object ends.

A mask is (H, W) float32: 1 the object, 0 not, NaN not to be used.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from training.views import Colours, Floats, Image8

SAME = 0.4  # how often a neighbour is a copy of the object itself
BEHIND = 0.45  # how often it stands behind the object
ASKED = 0.25  # how often the neighbour is what is asked for from then on
KEPT = 0.55  # share of the object that a neighbour in front of it leaves visible
LEAST = 150  # pixels, for an object to be cut out
LARGEST = 0.9  # of the picture's height and width
LEAST_ASKED = 0.004  # of the picture, for a neighbour to be asked for


def cut_out(image: Image8, labels: Image8, label: int) -> tuple[Image8, Floats] | None:
    """The pixels (h, w, 3) of an object's bounding box and its mask there; None where it is too small."""
    mask = labels == label
    if mask.sum() < LEAST:
        return None
    ys, xs = np.nonzero(mask)
    part = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
    return image[part], np.asarray(mask[part], np.float32)


def with_neighbour(
    rng: np.random.Generator, image: Image8, mask: Floats, neighbour: tuple[Image8, Floats]
) -> tuple[Image8, Floats]:
    """The picture with a cut-out pasted next to its object; the same picture where that does not fit."""
    pixels, shape = neighbour
    if rng.random() < 0.5:
        pixels, shape = np.ascontiguousarray(pixels[:, ::-1]), np.ascontiguousarray(shape[:, ::-1])
    visible = np.nan_to_num(mask) > 0.5
    scale = math.sqrt(visible.sum() / shape.sum()) * math.exp(rng.uniform(-0.6, 0.5))
    place = _place(rng, visible, (shape.shape[0] * scale, shape.shape[1] * scale))
    if place is None:
        return image, mask
    if rng.random() < 0.5:
        pixels = Colours(rng)(pixels)
    back = np.array([[1 / scale, 0, -place[0] / scale], [0, 1 / scale, -place[1] / scale]], np.float32)
    size, flags = mask.shape[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cover = cv2.warpAffine(shape, back, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    front = cv2.warpAffine(pixels, back, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    behind = rng.random() < BEHIND
    if behind:
        cover = np.where(visible | np.isnan(mask), np.float32(0), cover).astype(np.float32)
    there = cover > 0.5
    rest = np.where(there, np.float32(0), mask).astype(np.float32)
    if not behind and np.nansum(rest) < KEPT * visible.sum():
        return image, mask
    weight = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.4, 1.0))[..., None]
    pasted = np.asarray(image * (1 - weight) + front * weight, np.uint8)
    clear = there.sum() > max(LEAST_ASKED * mask.size, 0.5 * shape.sum() * scale**2)
    if clear and rng.random() < ASKED:
        return pasted, np.where(there, np.float32(1), mask * 0).astype(np.float32)
    return pasted, rest


def _place(rng: np.random.Generator, visible: NDArray[np.bool_], size: tuple[float, float]) -> tuple[float, float] | None:
    """Left and top of something of this height and width near the object; None where the picture is too small for it."""
    height, width = size
    if height > LARGEST * visible.shape[0] or width > LARGEST * visible.shape[1]:
        return None
    ys, xs = np.nonzero(visible)
    angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 1.1)
    x = (xs.min() + xs.max()) / 2 + math.cos(angle) * far * (np.ptp(xs) + 1 + width) / 2
    y = (ys.min() + ys.max()) / 2 + math.sin(angle) * far * (np.ptp(ys) + 1 + height) * 0.3
    inside = -0.1 * width < x < visible.shape[1] + 0.1 * width and -0.1 * height < y < visible.shape[0] + 0.1 * height
    return (x - width / 2, y - height / 2) if inside else None
