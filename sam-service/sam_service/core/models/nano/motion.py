"""Motion affinity: what moves along with a prompted object rather than with the camera, by dense optical flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_service.core.flow import FLOW_SIDE
from sam_service.core.frames import Floats, Mask
from sam_service.core.models.nano.grabcut import distances_from

STEP = 2  # frames between one that is prompted and the one that it is compared with
AT_CLICK = 2.5  # pixels around a click whose motion is the object's
IN_BOX = 0.35  # share of the way to a box's sides whose motion is the object's
LEAST_HALF = 2.0  # pixels that half a box is taken to have at least
AROUND_BOX = 1.1  # beyond this share of the way there is mostly background
ELSEWHERE = 0.12  # share of the picture's width beyond which from all clicks there is mostly background
LEAST_MOTION = 1.0  # pixels by which an object moves otherwise than the camera, or nothing is said
EVERY = 4  # of the picture's rows and columns show the camera's motion
LEAST_PLACES = 50
ROUNDS, SLOW, STEADY = 6, 0.3, 0.7  # of the fit to the camera's motion; pixels of error that are little


def reference_frames(index: int) -> tuple[int, ...]:
    """Frames that a prompted one may be compared with, the best first: a little later, where there is one."""
    return tuple(at for at in (index + STEP, index - STEP, index + 1, index - 1) if at >= 0)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a prompt's object is for sure, (s, s) for each click or the box, and where there is mostly background."""

    objects: Sequence[Mask]
    elsewhere: Mask

    @classmethod
    def of_clicks(cls, points: Floats, stretch: float, side: int = FLOW_SIDE) -> Places:
        """points (P, 2): clicks on the object, in pixels of a picture of side x side. stretch: how much taller than in the
        frame things are in it."""
        rows, columns = np.indices((side, side), np.float32)
        distances = distances_from(points, columns, rows, stretch)
        return cls([distance < max(AT_CLICK, float(distance.min()) + 1e-3) for distance in distances],
                   np.minimum.reduce(distances) > ELSEWHERE * side)

    @classmethod
    def of_box(cls, box: Floats, side: int = FLOW_SIDE) -> Places:
        """box (4,): x0, y0, x1, y1 in pixels of a picture of side x side."""
        rows, columns = np.indices((side, side), np.float32)
        middle = (box[:2] + box[2:]) / 2
        half = np.asarray(((box[2:] - box[:2]) / 2).clip(LEAST_HALF), np.float32)
        across, down = np.abs(columns - middle[0]) / half[0], np.abs(rows - middle[1]) / half[1]
        radius = np.hypot(across, down)
        return cls([radius < max(IN_BOX, float(radius.min()) + 1e-3)], np.maximum(across, down) > AROUND_BOX)


def moving_along(flow: Floats, places: Places) -> Floats | None:
    """How far each pixel's motion is from that of the object, less how far from the camera's: (s, s) in pixels, negative where
    it moves along with the object. None where the object itself moves as the camera does, or too little lies elsewhere.

    flow: (s, s, 2). The camera's motion is an affine model that is fitted to what lies elsewhere by iteratively reweighted
    least squares (after Odobez and Bouthemy, "Robust multiresolution estimation of parametric motion models", 1995).
    """
    elsewhere = places.elsewhere[::EVERY, ::EVERY]
    if elsewhere.sum() < LEAST_PLACES:
        return None
    grid = np.indices(flow.shape[:2], np.float32)
    y, x = grid[:, ::EVERY, ::EVERY][:, elsewhere]
    camera = _affine(x, y, flow[::EVERY, ::EVERY][elsewhere])
    background = grid[1, ..., None] * camera[0] + grid[0, ..., None] * camera[1] + camera[2]
    nearest = np.full(flow.shape[:2], np.inf, np.float32)
    for there in places.objects:
        motion = np.median(flow[there], axis=0)
        if _length(motion - background[there].mean(0)) < LEAST_MOTION:
            return None
        nearest = np.minimum(nearest, _length(flow - motion))
    return np.asarray(nearest - _length(flow - background), np.float32)


def _affine(x: Floats, y: Floats, flow: Floats) -> Floats:
    """(3, 2): the flow (N, 2) at places x and y (N,), as a linear function of x, y and 1, heeding what most of it agrees on."""
    places = np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float64)
    weights = np.ones(len(places))
    found: NDArray[np.float64] = np.zeros((3, 2))
    for turn in range(ROUNDS):
        weighted = places * weights[:, None]
        found = np.asarray(np.linalg.solve(weighted.T @ places + 1e-6 * np.eye(3), weighted.T @ flow), np.float64)
        error = _length((flow - places @ found).astype(np.float32))
        weights[:] = 1 / np.maximum(error, SLOW) if turn < ROUNDS // 2 else 1 / (1 + (error / STEADY) ** 2) ** 2
    return found.astype(np.float32)


def _length(vectors: Floats) -> Floats:
    return np.asarray(np.hypot(vectors[..., 0], vectors[..., 1]))
