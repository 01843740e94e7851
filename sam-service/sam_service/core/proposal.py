"""A first guess of an object's mask from its clicks or its box alone, with no network: GrabCut at two scales.

The nano model was trained with this guess as the mask prompt of an object's first prompt. Clicks are tried with a small
and a large radius, and the answer carries both: where they agree it is sure, where they differ the network decides.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FINE, COARSE = 128, 64  # side lengths in pixels at which GrabCut runs
FINE_WEIGHT = 0.65  # of the small radius in the answer; the large one has the rest
CLICK_RADIUS = 11.0  # pixels at either side length: 9 % of the fine frame, 17 % of the coarse one
SURE_RADIUS = 3.0
REACH = 1.7  # beyond this many radii a pixel is background for sure
STRETCH = 1.5  # landscape video squashed to a square makes round things tall
BOX_SURE, BOX_LIKELY = 0.25, 1.1  # share of the way from the middle of a box to its sides
BOX_LEAST = 0.38  # of the box's ellipse; a guess smaller than that has failed
ITERATIONS = 2
LIMIT = 8.0  # logits run from -LIMIT to LIMIT

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


def proposal(image_rgb: Image, points: Floats, labels: NDArray[np.int32], box: Floats | None = None) -> Floats:
    """Logits (S/4, S/4) of a first guess.

    image_rgb (S, S, 3); points (P, 2) as x, y in pixels of that image; labels (P,), 1 for object and 0 for background;
    box (4,) as x0, y0, x1, y1, or None. Without a box there must be a positive point, or the guess is empty.
    """
    size = image_rgb.shape[0]
    points, labels = np.asarray(points, np.float32).reshape(-1, 2), np.asarray(labels).reshape(-1)
    fine = _guess(image_rgb, FINE, points, labels, box)
    if box is None:
        coarse = _guess(image_rgb, COARSE, points, labels, None)
        coarse = np.asarray(cv2.resize(coarse, (FINE, FINE), interpolation=cv2.INTER_LINEAR), np.float32)
        fine = np.asarray(FINE_WEIGHT * fine + (1 - FINE_WEIGHT) * coarse, np.float32)
    side = size // 4
    shrink = cv2.INTER_AREA if side < FINE else cv2.INTER_LINEAR
    coverage = cv2.resize(fine, (side, side), interpolation=shrink)
    return np.asarray((2 * coverage - 1) * LIMIT, dtype=np.float32)


def _guess(image: Image, side: int, points: Floats, labels: NDArray[np.int32], box: Floats | None) -> Floats:
    """Coverage (side, side), 0 or 1, by GrabCut on the image scaled to `side` pixels."""
    scale = side / image.shape[0]
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    seeds = _seeds(side, points * scale, labels, None if box is None else np.asarray(box, np.float32) * scale)
    sure = seeds == cv2.GC_FGD
    if not (sure.any() or (seeds == cv2.GC_PR_FGD).any()):
        return np.zeros((side, side), np.float32)
    cv2.setRNGSeed(0)  # GrabCut starts from k-means: the same click must give the same mask
    try:
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(lab, seeds, (0, 0, side, side), *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few pixels on one side for a colour model
        return np.asarray(sure, np.float32)
    found = (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)
    if box is None:
        return np.asarray(_touching(found, sure), np.float32)
    ellipse = _radius_in_box(side, np.asarray(box, np.float32) * scale) < 1
    failed = found.sum() < BOX_LEAST * ellipse.sum()  # the object looks like its surroundings
    return np.asarray(ellipse if failed else found, np.float32)


def _seeds(side: int, points: Floats, labels: NDArray[np.int32], box: Floats | None) -> Image:
    """GrabCut's starting labels (side, side) for points and box in pixels of that grid."""
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    seeds = np.full((side, side), cv2.GC_BGD, np.uint8)
    distances = [np.hypot(columns - x, (rows - y) / STRETCH) for x, y in points]
    positive = [d for d, label in zip(distances, labels, strict=True) if label == 1]
    if box is not None:
        x0, y0, x1, y1 = box
        inside = (columns >= x0 - 0.5) & (columns <= x1 + 0.5) & (rows >= y0 - 0.5) & (rows <= y1 + 0.5)
        radius = _radius_in_box(side, box)
        seeds[inside] = cv2.GC_PR_BGD
        seeds[inside & (radius < BOX_LIKELY)] = cv2.GC_PR_FGD
        seeds[radius < BOX_SURE] = cv2.GC_FGD
    elif positive:
        nearest = np.minimum.reduce(positive)
        seeds[nearest <= REACH * CLICK_RADIUS] = cv2.GC_PR_BGD
        seeds[nearest < CLICK_RADIUS] = cv2.GC_PR_FGD
    for distance, label in zip(distances, labels, strict=True):
        seeds[distance < SURE_RADIUS * side / FINE] = cv2.GC_FGD if label == 1 else cv2.GC_BGD
    return seeds


def _radius_in_box(side: int, box: Floats) -> Floats:
    """Distance (side, side) from the middle of the box, 1 on the ellipse that it holds."""
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    x0, y0, x1, y1 = box
    across, down = (2 * columns - x0 - x1) / (x1 - x0 + 1), (2 * rows - y0 - y1) / (y1 - y0 + 1)
    return np.asarray(np.hypot(across, down), np.float32)


def _touching(found: NDArray[np.bool_], sure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected parts of `found` that hold a pixel of `sure`."""
    _, parts = cv2.connectedComponents(found.astype(np.uint8), connectivity=4)
    kept = np.unique(parts[sure & found])
    return np.asarray(np.isin(parts, kept[kept > 0]))
