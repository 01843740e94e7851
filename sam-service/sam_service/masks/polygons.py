"""Masks as polygons, the way COCO and YOLO tools read them.

The outlines follow the edges of the pixels, not their centres, in units of half a pixel: a single pixel at (x, y)
is the square from (x, y) to (x + 1, y + 1). So no component is too small to be a polygon, and
pycocotools paints the polygons back to exactly the mask they came from. By default the steps are straightened
(Douglas-Peucker, within half a pixel), which leaves a third of the points and an IoU of 0.9996 for a large ellipse,
0.99 for ragged outlines.

One polygon per connected component (pixels that touch at a corner are connected). COCO polygons have no holes; here
a hole is part of its component's polygon, joined to the outline, or to another hole, by a bridge of no width that is
walked there and back. Filled by the even-odd or the non-zero rule, the hole stays empty; drawn as a line, the bridge shows.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sam_service.errors import TooLarge

MAX_OUTLINES = 20_000
_PARENT = 3  # a column of OpenCV's contour hierarchy
_DISTANCES = 4_000_000  # that are computed for a component's bridges, at most

Points = npt.NDArray[np.int32]


def mask_to_polygons(mask: npt.NDArray[np.bool_], tolerance_px: float = 0.5) -> list[list[float]]:
    """Return the polygons [[x0, y0, x1, y1, ...], ...] of `mask`, bool (H, W), in pixels; [] for an empty mask.

    Every polygon has at least three points, all within 0..W and 0..H. No outline moves by more than `tolerance_px`
    pixels; 0 keeps every step. Raises TooLarge for a mask of more than MAX_OUTLINES components and holes.
    """
    if not mask.any():
        return []
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    lattice = _edge_lattice(mask[y : y + height, x : x + width])
    contours, hierarchy = cv2.findContours(lattice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) > MAX_OUTLINES:
        raise TooLarge(f"the mask has {len(contours)} components and holes, and polygons are made of at most {MAX_OUTLINES}; "
                       "ask for `rle` or `png`", field="mask_format", code="too_many_outlines")
    components: dict[int, list[Points]] = {}  # by the number of its outline, which comes before its holes
    for index, parent in sorted(enumerate(hierarchy[0][:, _PARENT]), key=lambda item: item[1]):
        rings = components.setdefault(index if parent < 0 else int(parent), [])
        rings.append(_straightened(contours[index], 2 * tolerance_px))
    polygons = []
    for rings in components.values():
        points = (rings[0] if len(rings) == 1 else _joined(rings)).astype(np.float64) / 2 + (x, y)
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


def _joined(rings: list[Points]) -> Points:
    """Return an outline and its holes, each (M, 2), as one ring (N, 2): a hole is a detour from a near point of another ring.

    A hole starts at its first point from the top, then from the left, and is joined to a point that comes before it, which is
    never its own: so the rings form a tree whose root is the outline. Takes O(N log N).
    """
    stops = [rings[0]]  # the rings one after the other; a hole ends where it starts
    for ring in rings[1:]:
        turned = np.roll(ring, -int(np.lexsort((ring[:, 0], ring[:, 1]))[0]), axis=0)
        stops.append(np.concatenate((turned, turned[:1])))
    lengths = [len(ring) for ring in stops]
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    points = np.concatenate(stops)
    order = np.lexsort((points[:, 0], points[:, 1]))
    order = order[~np.isin(order, [start + length - 1 for start, length in zip(starts[1:], lengths[1:], strict=True)])]
    rank = np.empty(len(points), np.int64)
    rank[order] = np.arange(len(order))
    following = list(range(1, len(points) + 1))  # the stop after each stop of the walk
    following[lengths[0] - 1] = 0
    reach = max(16, _DISTANCES // len(rings))
    again: list[int] = []  # where a bridge begins, once more for its way back
    for start, length in zip(starts[1:], lengths[1:], strict=True):
        before = order[max(0, int(rank[start]) - reach) : rank[start]]
        nearest = np.argmin(((points[before] - points[start]) ** 2).sum(axis=1)) if len(before) else None
        base = 0 if nearest is None else int(before[nearest])
        again.append(base)
        following[start + length - 1] = len(following)
        following.append(following[base])
        following[base] = start
    return np.concatenate((points, points[again]))[_walked(following)]


def _walked(following: list[int]) -> list[int]:
    """Return all stops of a round trip in order, from the first one on."""
    walk, stop = [0], following[0]
    while stop:
        walk.append(stop)
        stop = following[stop]
    return walk
