"""Crop refinement: choose a window around the prompted object, where the mask is drawn anew at the frame's own resolution, and
paste the result back into the logits of the whole frame. No torch.

W, H: the session's frame in pixels. s: side of the model's logits. S: of its input.
"""

from __future__ import annotations

import cv2
import numpy as np

from sam_service.core.frames import Crop, Floats, Window, shrunk, upsample
from sam_service.core.prompts import POSITIVE, PointPrompt

MARGIN = 0.35  # around the object, as a share of its larger side
LEAST, MOST = 0.12, 0.7  # share of the frame that a window has; an object that would need more is not refined
FINER = 4  # logits are put together on a grid so many times as fine as they are


def window_around(logits: Floats, prompt: PointPrompt, width: int, height: int) -> Window | None:
    """Where to look closer, given the answer (s, s) and the prompt in pixels of the frame; None where that gains nothing."""
    rows, columns = np.nonzero(logits > 0)
    if not len(rows):
        return None
    scale = np.array([width, height]) / logits.shape[0]
    inside = prompt.points[prompt.labels >= POSITIVE]
    corners = np.concatenate([[[columns.min(), rows.min()]] * scale, [[columns.max() + 1, rows.max() + 1]] * scale, inside])
    least, most = corners.min(0).clip(0, [width, height]), corners.max(0).clip(0, [width, height])
    share = float(((most - least) / [width, height]).max()) * (1 + 2 * MARGIN)
    if share > MOST:
        return None
    size = np.round(np.array([width, height]) * max(share, LEAST)).astype(int)
    x0, y0 = np.clip(np.round((least + most - size) / 2), 0, np.array([width, height]) - size).astype(int)
    return Window(int(x0), int(y0), int(x0 + size[0]), int(y0 + size[1]))


def cut_out(logits: Floats, window: Window, width: int, height: int, size: tuple[int, int] | None = None) -> Floats:
    """The part of an answer (s, s) for the whole frame that lies in a window, as (rows, columns); size: columns and rows, s of
    each where it is not given."""
    side = logits.shape[0]
    size = size or (side, side)
    step = np.array([window.x1 - window.x0, window.y1 - window.y0]) / [width, height] * (side / np.array(size))
    start = np.array([window.x0, window.y0]) / [width, height] * side
    matrix = np.array([[step[0], 0, start[0] + step[0] / 2 - 0.5], [0, step[1], start[1] + step[1] / 2 - 0.5]])
    return np.asarray(cv2.warpAffine(logits, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                     borderMode=cv2.BORDER_REPLICATE), np.float32)


def paste(logits: Floats, crop: Crop, width: int, height: int) -> Floats:
    """The logits (s, s) of the whole frame with those of a crop in their place."""
    side = logits.shape[0]
    return shrunk(upsample(logits, crop, width, height, FINER * side, FINER * side), side)
