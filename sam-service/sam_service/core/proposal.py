"""First guesses of an object's mask from its clicks or its box alone, with no network: GrabCut at several scales.

A click does not say how large its object is. So there is one guess for each of a few radii, and the nano model, which was
trained with such a guess as the mask prompt of an object's first prompt, decodes them all and keeps the one that it
rates best.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 192  # side length in pixels at which GrabCut runs
CLICK_RADII = (0.06, 0.09, 0.13)  # share of the frame's width that an object is first thought to reach from a click
SURE_SHARE = 0.15  # of a radius: object for sure
REACH = 2.0  # beyond this many radii a pixel is background for sure
MARGIN = 1.35  # how far the picture is looked at, in reaches
STRETCH = 1.5  # landscape video squashed to a square makes round things tall
LIGHTNESS_FROM = 0.12  # from this radius on colours are compared in Lab, which parts large objects better than RGB
BOX_SCALES = (1.1, 0.8)  # of the ellipse in a box that is likely the object
BOX_SURE = 0.25  # share of the way from the middle of a box to its sides
BOX_LEAST = 0.38  # of the box's ellipse; a guess smaller than that has failed
BOX_CONTEXT = 0.35  # of a box's sides, looked at around it
TOUCHED, SURE_TOUCH = 0.045, 0.012  # share of the picture around a click that is what it says likely, and for sure
HALO = 10  # pixels around an answer into which mending may spread it
ITERATIONS = 2  # of GrabCut
MENDING_ITERATIONS = 1  # an answer that is mended is nearly right
LIMIT = 8.0  # logits run from -LIMIT to LIMIT

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Window = tuple[slice, slice]
Place = NDArray[np.floating]


def proposals(image_rgb: Image, points: Floats, labels: NDArray[np.int32], box: Floats | None = None) -> Floats:
    """Logits (K, S/4, S/4) of K first guesses, all of which hold the clicks.

    image_rgb (S, S, 3); points (P, 2) as x, y in pixels of that image; labels (P,), 1 for object and 0 for background;
    box (4,) as x0, y0, x1, y1, or None. Without a box there must be a positive point, or the guesses are empty.
    """
    points, labels = np.asarray(points, np.float32).reshape(-1, 2), np.asarray(labels).reshape(-1)
    scale = SIDE / image_rgb.shape[0]
    small = np.asarray(cv2.resize(image_rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    settings = CLICK_RADII if box is None else BOX_SCALES

    def guess(setting: float) -> Floats:
        if box is None:
            mask = _from_clicks(small, points * scale, labels, setting * SIDE)
        else:
            mask = _from_box(small, points * scale, labels, np.asarray(box, np.float32) * scale, setting)
        return as_logits(mask, image_rgb.shape[0] // 4)

    with ThreadPoolExecutor(len(settings)) as threads:  # GrabCut lets go of Python's lock; the largest takes longest
        jobs = {setting: threads.submit(guess, setting) for setting in sorted(settings, reverse=True)}
        return np.stack([jobs[setting].result() for setting in settings])


def refined(image_rgb: Image, points: Floats, labels: NDArray[np.int32], earlier: Floats) -> Floats:
    """Logits (S/4, S/4) of a first answer, given as such, after GrabCut has drawn its outline anew, heeding the clicks."""
    scale = SIDE / image_rgb.shape[0]
    small = np.asarray(cv2.resize(image_rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    cover = cv2.resize(earlier, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) > 0
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    distances = [np.hypot(columns - x, (rows - y) / STRETCH) for x, y in np.asarray(points, np.float32) * scale]
    likely = cover.copy()
    for distance, label in zip(distances, labels, strict=True):
        likely[distance < TOUCHED * SIDE] = label == 1
    near = cv2.dilate((likely | cover).astype(np.uint8), np.ones((2 * HALO + 1, 2 * HALO + 1), np.uint8)) > 0
    seeds = np.where(likely, cv2.GC_PR_FGD, np.where(near, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
    _press(seeds, distances, labels, SURE_TOUCH * SIDE)
    found = _touching(grab_cut(lab(small), seeds, MENDING_ITERATIONS), likely)
    return as_logits(found, image_rgb.shape[0] // 4)


def as_logits(mask: NDArray[np.bool_], side: int) -> Floats:
    """A mask (SIDE, SIDE) as logits (side, side)."""
    shrink = cv2.INTER_AREA if side < SIDE else cv2.INTER_LINEAR
    coverage = cv2.resize(mask.astype(np.float32), (side, side), interpolation=shrink)
    return np.asarray((2 * coverage - 1) * LIMIT, dtype=np.float32)


def _from_clicks(image: Image, points: Floats, labels: NDArray[np.int32], radius: float) -> NDArray[np.bool_]:
    """GrabCut (SIDE, SIDE) from an ellipse of that radius in pixels around every positive click."""
    found = np.zeros((SIDE, SIDE), np.bool_)
    positive = points[labels == 1]
    if not len(positive):
        return found
    extent = MARGIN * REACH * radius * np.array([1, STRETCH])
    window = _window(positive.min(0) - extent, positive.max(0) + extent)
    rows, columns = np.mgrid[window].astype(np.float32)
    distances = [np.hypot(columns - x, (rows - y) / STRETCH) for x, y in points]
    nearest = np.minimum.reduce([d for d, label in zip(distances, labels, strict=True) if label == 1])
    seeds = np.full(nearest.shape, cv2.GC_BGD, np.uint8)
    seeds[nearest < REACH * radius] = cv2.GC_PR_BGD
    seeds[nearest < radius] = cv2.GC_PR_FGD
    _press(seeds, distances, labels, max(1.5, SURE_SHARE * radius))
    part = image[window] if radius < LIGHTNESS_FROM * SIDE else lab(image[window])
    sure = seeds == cv2.GC_FGD
    found[window] = _touching(grab_cut(part, seeds), sure)
    return found


def _from_box(image: Image, points: Floats, labels: NDArray[np.int32], box: Floats, likely: float) -> NDArray[np.bool_]:
    """GrabCut (SIDE, SIDE) from the ellipse in a box; `likely` scales it."""
    found = np.zeros((SIDE, SIDE), np.bool_)
    x0, y0, x1, y1 = box
    context = BOX_CONTEXT * np.array([x1 - x0, y1 - y0]) + 2
    window = _window(box[:2] - context, box[2:] + context)
    rows, columns = np.mgrid[window].astype(np.float32)
    across, down = (2 * columns - x0 - x1) / (x1 - x0 + 1), (2 * rows - y0 - y1) / (y1 - y0 + 1)
    radius = np.hypot(across, down)
    seeds = np.full(radius.shape, cv2.GC_BGD, np.uint8)
    inside = (columns >= x0 - 0.5) & (columns <= x1 + 0.5) & (rows >= y0 - 0.5) & (rows <= y1 + 0.5)
    seeds[inside] = cv2.GC_PR_BGD
    seeds[inside & (radius < likely)] = cv2.GC_PR_FGD
    seeds[radius < BOX_SURE] = cv2.GC_FGD
    _press(seeds, [np.hypot(columns - x, rows - y) for x, y in points], labels, 3.0)
    guess = grab_cut(lab(image[window]), seeds)
    ellipse = radius < 1
    failed = guess.sum() < BOX_LEAST * ellipse.sum()  # the object looks like its surroundings
    found[window] = ellipse if failed else guess
    return found


def lab(image: Image) -> Image:
    """RGB -> CIE Lab, where distances are nearer to what the eye sees."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), np.uint8)


def _window(least: Place, most: Place) -> Window:
    """The rows and columns from corner to corner (x, y) that lie in the picture, at least one of each."""
    x0, y0 = np.floor(least).clip(0, SIDE - 1).astype(int)
    x1, y1 = np.ceil(most).clip(0, SIDE - 1).astype(int)
    return slice(int(y0), int(y1) + 1), slice(int(x0), int(x1) + 1)


def _press(seeds: Image, distances: list[Floats], labels: NDArray[np.int32], radius: float) -> None:
    """Mark what lies within `radius` of each click as object or background for sure."""
    for distance, label in zip(distances, labels, strict=True):
        seeds[distance < max(radius, float(distance.min()) + 1e-3)] = cv2.GC_FGD if label == 1 else cv2.GC_BGD


def grab_cut(image: Image, seeds: Image, iterations: int = ITERATIONS) -> NDArray[np.bool_]:
    """The object in an image (h, w, 3) by GrabCut from starting labels (h, w)."""
    sure = seeds == cv2.GC_FGD
    cv2.setRNGSeed(0)  # GrabCut starts from k-means: the same click must give the same mask
    try:
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(np.ascontiguousarray(image), seeds, (0, 0, 1, 1), *models, iterations, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few pixels on one side for a colour model
        return np.asarray(sure)
    return np.asarray((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD))


def _touching(found: NDArray[np.bool_], sure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected parts of `found` that hold a pixel of `sure`."""
    _, parts = cv2.connectedComponents(found.astype(np.uint8), connectivity=4)
    kept = np.unique(parts[sure & found])
    return np.asarray(np.isin(parts, kept[kept > 0]))
