"""What OpenCV does with no network: GrabCut from the prompt, then the mask carried along by dense optical flow.

The bar that a trained model must clear on the same clips.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.cases import Case, Image8, Mask

WIDTH = 320  # at which GrabCut runs
RADIUS = 0.1  # of a click's likely object, as a share of the width
ITERATIONS = 5


def segment(case: Case) -> list[Mask]:
    """The mask (H, W) of every frame of a case."""
    cover = first_mask(case.frames[0], case.prompt).astype(np.float32)
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rows, columns = np.indices(cover.shape, np.float32)
    masks, before = [cover > 0.5], _grey(case.frames[0])
    for frame in case.frames[1:]:
        now = _grey(frame)
        flow = _enlarged(method.calc(now, before, np.zeros((*now.shape, 2), np.float32)), cover.shape)
        cover = np.asarray(cv2.remap(cover, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR), np.float32)
        masks.append(cover > 0.5)
        before = now
    return masks


def first_mask(image: Image8, prompt: NDArray[np.float32]) -> Mask:
    """GrabCut on an image (H, W, 3) from a click (2,) or a box (4,)."""
    scale = WIDTH / image.shape[1]
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    seeds = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    place = prompt * scale
    if len(place) == 2:
        rows, columns = np.indices(seeds.shape)
        distance = np.hypot(columns - place[0], rows - place[1]) / (RADIUS * WIDTH)
        seeds[distance < 2], seeds[distance < 1], seeds[distance < 0.2] = cv2.GC_PR_BGD, cv2.GC_PR_FGD, cv2.GC_FGD
    else:
        x0, y0, x1, y1 = place.astype(int)
        seeds[y0 : y1 + 1, x0 : x1 + 1] = cv2.GC_PR_FGD
    cv2.setRNGSeed(0)
    cv2.grabCut(small, seeds, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), ITERATIONS, cv2.GC_INIT_WITH_MASK)
    found = ((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)).astype(np.uint8)
    if len(place) == 2:
        _, parts = cv2.connectedComponents(found)
        found = (parts == parts[int(place[1]), int(place[0])]).astype(np.uint8) * found
    return np.asarray(cv2.resize(found.astype(np.float32), image.shape[1::-1]) > 0.5)


def _grey(image: Image8) -> Image8:
    """(H, W, 3) -> at most 640 wide, grey."""
    scale = min(1.0, 640 / image.shape[1])
    return np.asarray(cv2.cvtColor(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA),
                                   cv2.COLOR_RGB2GRAY), np.uint8)  # fmt: skip


def _enlarged(flow: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Flow (h, w, 2) for a grid of another shape, in its pixels."""
    larger = flow if flow.shape[:2] == shape else cv2.resize(flow, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(larger * (shape[1] / flow.shape[1]), np.float32)
