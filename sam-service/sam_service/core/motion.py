"""Where things went between two frames, by dense optical flow, and an object's last mask carried along with it.

The nano model gets the carried mask beside its memory: the memory knows what the object looks like, the flow where its
pixels went. One flow serves all objects of a frame.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256  # side length in pixels at which the flow is computed
LIMIT = 8.0  # logits of a carried mask run from -LIMIT to LIMIT

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
