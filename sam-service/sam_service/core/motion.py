"""Where things went between two frames, by dense optical flow: a last mask carried along, and what moves with a click.

The nano model gets the carried mask beside its memory: the memory knows what the object looks like, the flow where its
pixels went. One flow serves all objects of a frame. A click's first guesses get what does not move as the camera does.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256  # side length in pixels at which the flow is computed
LIMIT = 8.0  # logits of a carried mask run from -LIMIT to LIMIT
STEP = 2  # frames between one that is clicked and the one that it is compared with
AT_CLICK = 2.5  # pixels around a click whose motion is the object's
ELSEWHERE = 0.12  # share of the picture's width beyond which from all clicks there is mostly background
LEAST_MOTION = 1.0  # pixels by which an object moves otherwise than the camera, or nothing is said
EVERY = 4  # of the picture's rows and columns show the camera's motion
LEAST_PLACES = 50
ROUNDS, SLOW, STEADY = 6, 0.3, 0.7  # of the fit to the camera's motion; pixels of error that are little

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


def grey(image_rgb: Image) -> Image:
    """(S, S, 3) RGB -> (SIDE, SIDE), what `backward_flow` compares."""
    small = image_rgb if image_rgb.shape[0] == SIDE else cv2.resize(image_rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def backward_flow(current: Image, previous: Image, side: int) -> Floats:
    """From where in `previous` each pixel of `current` came: (side, side, 2), x and y in pixels of that grid."""
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = method.calc(current, previous, np.zeros((SIDE, SIDE, 2), np.float32))
    small = cv2.resize(flow, (side, side), interpolation=cv2.INTER_AREA if side < SIDE else cv2.INTER_LINEAR)
    return np.asarray(small * (side / SIDE), np.float32)


def carried(logits: Floats, flow: Floats) -> Floats:
    """Mask logits (s, s) of the previous frame, moved to where the flow (s, s, 2) says that they are now."""
    rows, columns = np.indices(logits.shape, np.float32)
    limited = logits.clip(-LIMIT, LIMIT)
    moved = cv2.remap(limited, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_CONSTANT, borderValue=-LIMIT)
    return np.asarray(moved, np.float32)


def beside(index: int, count: int) -> int | None:
    """Which of a clip's `count` frames a clicked one is compared with: one a little later where there is one; None if alone."""
    near = (index + STEP, index - STEP, index + 1, index - 1)
    return next((at for at in near if 0 <= at < count), None)


def moving_along(flow: Floats, points: Floats, stretch: float) -> Floats | None:
    """How far each pixel's motion is from that of the clicks, less how far from the camera's: (s, s) in pixels, negative where
    it moves along with a click. None where a click itself moves as the camera does, or the camera's motion cannot be told.

    flow: (s, s, 2). points (P, 2): clicks on the object, in pixels of that grid. stretch: how much taller than in the frame
    things are in it. The camera's motion is an affine model that is fitted to what lies elsewhere by iteratively reweighted
    least squares (after Odobez and Bouthemy, "Robust multiresolution estimation of parametric motion models", 1995).
    """
    side = flow.shape[0]
    rows, columns = np.indices((side, side), np.float32)
    distances = [np.hypot(columns - x, (rows - y) / stretch) for x, y in points]
    away = np.minimum.reduce(distances)[::EVERY, ::EVERY] > ELSEWHERE * side
    if away.sum() < LEAST_PLACES:
        return None
    camera = _affine(columns[::EVERY, ::EVERY][away], rows[::EVERY, ::EVERY][away], flow[::EVERY, ::EVERY][away])
    background = columns[..., None] * camera[0] + rows[..., None] * camera[1] + camera[2]
    own = _length(flow - background)
    nearest = np.full((side, side), np.inf, np.float32)
    for distance in distances:
        at_click = distance < max(AT_CLICK, float(distance.min()) + 1e-3)
        motion = np.median(flow[at_click], axis=0)
        if _length(motion - background[at_click].mean(0)) < LEAST_MOTION:
            return None
        nearest = np.minimum(nearest, _length(flow - motion))
    return np.asarray(nearest - own, np.float32)


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
