"""A closer look at what was prompted: where, and how the finer answer goes back into the whole frame's. No torch.

The nano model sees a whole frame as a small square, in which a small object is a few cells. So its answer is mended by GrabCut
in the part of the frame around it, at the frame's own resolution. (Encoding that part and asking the network again was tried,
and gave no more.)

W, H: the session's frame in pixels. s: side of the model's logits. S: of its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.core.prompts import POSITIVE, PointPrompt

MARGIN = 0.35  # around the object, as a share of its larger side
LEAST, MOST = 0.12, 0.7  # share of the frame that a window has; an object that would need more is not looked at closer
FINER = 4  # the answers are put together on a grid so many times as fine as the logits

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
Array = TypeVar("Array", bound=NDArray[Any])


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a frame in whole pixels, x1 and y1 excluded. It has the frame's proportions."""

    x0: int
    y0: int
    x1: int
    y1: int

    def map(self, prompt: PointPrompt, side: int) -> PointPrompt:
        """A prompt in pixels of the frame as one in pixels of this window as (side, side), without what lies outside."""
        points = (prompt.points - [self.x0, self.y0]) / [self.x1 - self.x0, self.y1 - self.y0] * side
        keep = (prompt.labels > POSITIVE) | ((points >= 0) & (points <= side)).all(axis=1)
        return PointPrompt(points[keep].astype(np.float32), prompt.labels[keep])


@dataclass(frozen=True, slots=True)
class Detail:
    """A finer answer within a window of a frame. logits: (s, s) float32."""

    window: Window
    logits: Floats


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


def part_of(image: Image, window: Window, width: int, height: int) -> Image:
    """A window (h, w, 3) of an image that shows a frame of width x height, in the image's own pixels."""
    rows, columns = image.shape[:2]
    x0, x1 = window.x0 * columns // width, -(-window.x1 * columns // width)
    y0, y1 = window.y0 * rows // height, -(-window.y1 * rows // height)
    return image[y0:y1, x0:x1]


def put_back(logits: Floats, detail: Detail, width: int, height: int) -> Floats:
    """The answer (s, s) for the whole frame with the finer one in its place."""
    side = logits.shape[0]
    return shrunk(enlarged(logits, detail, width, height, FINER * side, FINER * side), side)


def resized(image: Array, columns: int, rows: int) -> Array:
    """(h, w) or (h, w, C) -> (rows, columns) or (rows, columns, C), by the means of areas where it gets smaller."""
    smaller = rows * columns < image.shape[0] * image.shape[1]
    return cast(Array, cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))


def shrunk(logits: Floats, side: int) -> Floats:
    """(rows, columns) -> (side, side)."""
    return np.asarray(cv2.resize(logits, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def enlarged(logits: Floats, detail: Detail | None, width: int, height: int, columns: int, rows: int) -> Floats:
    """An answer for a frame of width x height as (rows, columns), pixel centres aligned as in torch's `align_corners=False`;
    the finer one in its place, where there is one."""
    whole = np.asarray(cv2.resize(logits, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    if detail is not None:
        window = detail.window
        x0, x1 = round(window.x0 / width * columns), round(window.x1 / width * columns)
        y0, y1 = round(window.y0 / height * rows), round(window.y1 / height * rows)
        if x1 > x0 and y1 > y0:
            whole[y0:y1, x0:x1] = cv2.resize(detail.logits, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    return whole
