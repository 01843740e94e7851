"""Dense optical flow between two frames, and masks warped by it. No torch."""

from __future__ import annotations

import cv2
import numpy as np

from sam_service.core.frames import Floats, Image

FLOW_SIDE = 256  # side length in pixels at which the flow is computed
LOGIT_LIMIT = 8.0  # logits of a warped mask run from -LOGIT_LIMIT to LOGIT_LIMIT


def grey(image_rgb: Image) -> Image:
    """(H, W, 3) RGB -> (FLOW_SIDE, FLOW_SIDE), what `backward_flow` compares."""
    small = image_rgb
    if image_rgb.shape[:2] != (FLOW_SIDE, FLOW_SIDE):
        small = np.asarray(cv2.resize(image_rgb, (FLOW_SIDE, FLOW_SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def backward_flow(current: Image, previous: Image, rows: int, columns: int) -> Floats:
    """From where in `previous` each pixel of `current` came: (rows, columns, 2), x and y in pixels of that grid.

    By dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016).
    """
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = method.calc(current, previous, np.zeros((FLOW_SIDE, FLOW_SIDE, 2), np.float32))
    method_of_size = cv2.INTER_AREA if max(rows, columns) < FLOW_SIDE else cv2.INTER_LINEAR
    resized = cv2.resize(flow, (columns, rows), interpolation=method_of_size)
    return np.asarray(resized * np.array([columns / FLOW_SIDE, rows / FLOW_SIDE], np.float32), np.float32)


def warp_mask(logits: Floats, flow: Floats) -> Floats:
    """Mask logits (h, w) of the previous frame, moved to where the flow (h, w, 2) says that they are now."""
    rows, columns = np.indices(logits.shape, np.float32)
    limited = logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT)
    moved = cv2.remap(limited, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_CONSTANT, borderValue=-LOGIT_LIMIT)
    return np.asarray(moved, np.float32)
