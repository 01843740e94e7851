"""The measures of the field for masks (H, W) bool: J is the IoU of regions, F that of boundaries within a tolerance.

As in the DAVIS benchmark (Perazzi et al., 2016): its boundaries, and its tolerance of 0.008 of the picture's diagonal.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
TOLERANCE = 0.008


def region(answer: Mask, truth: Mask, usable: Mask | None = None) -> float:
    """J: intersection over union; 1 where both are empty. usable: pixels that count, all if None."""
    if usable is not None:
        answer, truth = answer & usable, truth & usable
    union = int((answer | truth).sum())
    return 1.0 if union == 0 else float((answer & truth).sum() / union)


def boundary(answer: Mask, truth: Mask, tolerance: float = TOLERANCE) -> float:
    """F: harmonic mean of the shares of each boundary that lie within `tolerance` diagonals of the other one."""
    reach = math.ceil(tolerance * math.hypot(*truth.shape))
    ys, xs = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (ys**2 + xs**2 <= reach**2).astype(np.uint8)
    drawn, wanted = outline(answer), outline(truth)
    if not drawn.any() or not wanted.any():
        return float(drawn.any() == wanted.any())
    precision = float((drawn & _grown(wanted, disc)).sum() / drawn.sum())
    recall = float((wanted & _grown(drawn, disc)).sum() / wanted.sum())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def outline(mask: Mask) -> Mask:
    """Pixels that differ from the one to the right, below, or right below."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return np.asarray((here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:]))


def inner_point(mask: Mask) -> tuple[float, float]:
    """x, y of the pixel deepest inside a mask that is not empty: where a person would click."""
    deep = depth(mask)
    y, x = np.unravel_index(int(deep.argmax()), deep.shape)
    return float(x), float(y)


def depth(mask: Mask) -> NDArray[np.float32]:
    """How far each pixel of a mask is from its edge, in pixels; the picture's edge counts as one."""
    return np.asarray(cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)


def corrective_click(answer: Mask, truth: Mask, usable: Mask) -> tuple[float, float, int] | None:
    """x, y and label (1 add, 0 take away) of a click deepest inside the error that is deepest; None where nothing is wrong."""
    missed, spilt = depth(truth & ~answer & usable), depth(answer & ~truth & usable)
    deep = missed if missed.max() >= spilt.max() else spilt
    if deep.max() == 0:
        return None
    y, x = np.unravel_index(int(deep.argmax()), deep.shape)
    return float(x), float(y), int(deep is missed)


def bounding_box(mask: Mask) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of the outermost pixels of a mask that is not empty."""
    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def _grown(mask: Mask, disc: NDArray[np.uint8]) -> Mask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc) > 0)
