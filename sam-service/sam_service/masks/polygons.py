"""Masks as polygons, the way COCO and YOLO tools read them.

The outlines follow the edges of the pixels, not their centres, in units of half a pixel: a single pixel at (x, y)
is the square from (x, y) to (x + 1, y + 1). So no component is too small to be a polygon, and
pycocotools paints the polygons back to exactly the mask they came from. By default the steps are straightened
(Douglas-Peucker, within half a pixel), which leaves a third of the points and an IoU of 0.9996 for a large ellipse,
0.99 for ragged outlines.

One polygon per connected component (pixels that touch at a corner are connected). COCO polygons have no holes; here
a hole is part of its component's polygon, joined to the outline by a bridge of no width that is walked there and
back. Filled by the even-odd or the non-zero rule, the hole stays empty; drawn as a line, the bridge shows.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_NEXT, _CHILD, _PARENT = 0, 2, 3  # columns of OpenCV's contour hierarchy


def mask_to_polygons(mask: npt.NDArray[np.bool_], tolerance_px: float = 0.5) -> list[list[float]]:
    """Return the polygons [[x0, y0, x1, y1, ...], ...] of `mask`, bool (H, W), in pixels; [] for an empty mask.

    Every polygon has at least three points, all within 0..W and 0..H. No outline moves by more than `tolerance_px`
    pixels; 0 keeps every step.
    """
    if not mask.any():
        return []
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    lattice = _edge_lattice(mask[y : y + height, x : x + width])
    contours, hierarchy = cv2.findContours(lattice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for index, contour in enumerate(contours):
        if hierarchy[0][index][_PARENT] >= 0:
            continue
        ring = _straightened(contour, 2 * tolerance_px)
        hole = int(hierarchy[0][index][_CHILD])
        while hole >= 0:
            ring = _bridge(ring, _straightened(contours[hole], 2 * tolerance_px))
            hole = int(hierarchy[0][hole][_NEXT])
        points = ring.astype(np.float64) / 2 + (x, y)
        polygons.append([float(value) for value in points.ravel()])
    return polygons


def _edge_lattice(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return `mask` (H, W) at twice its size plus one, uint8 (2H + 1, 2W + 1).

    Pixels become 3 x 3 blocks around their odd centre, so that even coordinates are the edges between pixels.
    """
    height, width = mask.shape
    lattice = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    lattice[1::2, 1::2] = mask
    return np.asarray(cv2.dilate(lattice, np.ones((3, 3), np.uint8)), np.uint8)


def _straightened(contour: npt.NDArray[Any], tolerance: float) -> npt.NDArray[np.int32]:
    """Return `contour` (N, 1, 2) as points (M, 2) with every dropped point within `tolerance`; at least three."""
    points = np.asarray(cv2.approxPolyDP(contour, tolerance, True), np.int32)
    return np.asarray(points if len(points) >= 3 else contour, np.int32)[:, 0, :]


def _bridge(ring: npt.NDArray[np.int32], hole: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return `ring` (N, 2) with `hole` (M, 2) walked as a detour from the point of the ring nearest to its start."""
    nearest = int(np.argmin(((ring - hole[0]) ** 2).sum(axis=1)))
    return np.concatenate((ring[: nearest + 1], hole, hole[:1], ring[nearest:]))
