"""GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004) as OpenCV has it, and what is done around it. No torch.

h, w: a picture in pixels. s: side of the model's logits.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.core.frames import Floats, Image, Mask, resized

SIDE = 192  # most pixels a side at which GrabCut runs
ITERATIONS = 2
MENDING_ITERATIONS = 1  # an answer that is mended is nearly right
TOUCHED, SURE_TOUCH = 0.045, 0.012  # share of the picture around a click that is what it says likely, and for sure
STRETCH = 1.5  # landscape video squashed to a square makes round things tall
HALO = 10  # pixels around an answer into which mending may spread it
LIMIT = 8.0  # logits run from -LIMIT to LIMIT

Labels = NDArray[np.int32]


def grab_cut(image: Image, seeds: Image, iterations: int = ITERATIONS) -> Mask:
    """The object in an image (h, w, 3) from starting labels (h, w)."""
    sure = seeds == cv2.GC_FGD
    cv2.setRNGSeed(0)  # GrabCut starts from k-means: the same click must give the same mask
    try:
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(np.ascontiguousarray(image), seeds, (0, 0, 1, 1), *models, iterations, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few pixels on one side for a colour model
        return np.asarray(sure)
    return np.asarray((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD))


def refined(image_rgb: Image, points: Floats, labels: Labels, earlier: Floats) -> Floats:
    """An answer (s, s) for a part of a frame after GrabCut has drawn its outline anew, heeding the clicks.

    image_rgb: that part as (SIDE, SIDE, 3). points (P, 2): in its pixels. labels (P,): 1 for object, 0 for background.
    """
    cover = cv2.resize(earlier, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) > 0
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    distances = distances_from(points, columns, rows)
    likely = cover.copy()
    for distance, label in zip(distances, labels, strict=True):
        likely[distance < TOUCHED * SIDE] = label == 1
    near = cv2.dilate((likely | cover).astype(np.uint8), np.ones((2 * HALO + 1, 2 * HALO + 1), np.uint8)) > 0
    seeds = np.where(likely, cv2.GC_PR_FGD, np.where(near, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
    press(seeds, distances, labels, SURE_TOUCH * SIDE)
    found = touching(grab_cut(lab(image_rgb), seeds, MENDING_ITERATIONS), likely)
    return as_logits(found, earlier.shape[0])


def as_logits(mask: Mask, side: int) -> Floats:
    """A mask (h, w) as logits (side, side)."""
    coverage = resized(mask.astype(np.float32), side, side)
    return np.asarray((2 * coverage - 1) * LIMIT, dtype=np.float32)


def lab(image: Image) -> Image:
    """RGB -> CIE Lab, where distances are nearer to what the eye sees."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), np.uint8)


def distances_from(points: Floats, columns: Floats, rows: Floats, stretch: float = STRETCH) -> list[Floats]:
    """How far each place, given by its columns and rows, is from each of the points (P, 2), in a picture of that stretch."""
    return [np.hypot(columns - x, (rows - y) / stretch) for x, y in points]


def press(seeds: Image, distances: Iterable[Floats], labels: Labels, radius: float) -> None:
    """Mark what lies within `radius` of each click as object or background for sure, its own pixel in any case."""
    for distance, label in zip(distances, labels, strict=True):
        seeds[distance < max(radius, float(distance.min()) + 1e-3)] = cv2.GC_FGD if label == 1 else cv2.GC_BGD


def touching(found: Mask, sure: Mask) -> Mask:
    """The connected parts of `found` that hold a pixel of `sure`."""
    _, parts = cv2.connectedComponents(found.astype(np.uint8), connectivity=4)
    kept = np.unique(parts[sure & found])
    return np.asarray(np.isin(parts, kept[kept > 0]))
