"""Prompts as a user would give them: a click inside an object, or a box around it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
LEAST_AREA = 60  # visible pixels below which an object counts as absent


def click_inside(rng: np.random.Generator, mask: NDArray[np.bool_]) -> Floats:
    """One point (x, y) of `mask` (H, W): the most interior one, or one drawn with odds that grow with its depth."""
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    if rng.random() < 0.5:
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    else:
        odds = depth.ravel().astype(np.float64)
        y, x = np.unravel_index(int(rng.choice(odds.size, p=odds / odds.sum())), depth.shape)
    return np.array([x, y], np.float32)


def box_around(rng: np.random.Generator, mask: NDArray[np.bool_]) -> Floats:
    """The box (x0, y0, x1, y1) of `mask` (H, W), every second time drawn a little carelessly."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
    if rng.random() < 0.5:
        extent = np.tile(box[2:] - box[:2], 2)
        box += rng.normal(0, 0.04, 4).astype(np.float32) * extent
    limits = np.array(mask.shape[::-1] * 2, np.float32) - 1
    return np.asarray(box.clip(0, limits), dtype=np.float32)
