"""Frames as a model sees them: where their pixels come from, parts of them, and masks at other resolutions. No torch.

W, H: the session's frame in pixels. s: side of a model's logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.core.prompts import POSITIVE, PointPrompt

Image = NDArray[np.uint8]
"""(h, w, 3) RGB."""
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Array = TypeVar("Array", bound=NDArray[Any])


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a frame in whole pixels, x1 and y1 excluded."""

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
class Crop:
    """Logits (s, s) for a window of a frame alone, finer than those of the whole frame."""

    window: Window
    logits: Floats


class FrameSource(Protocol):
    """One frame of a clip, and the way to the pixels of that clip.

    index: the frame's number. width, height: of the session's frames, in pixels. reference: another frame of the clip, which
    a prompt on this one is compared with; None where there is none, or the network asks for none.
    """

    index: int
    width: int
    height: int
    reference: int | None

    def pixels(self, index: int | None = None) -> Image:
        """The model's input for this frame, or for another frame of the clip."""

    def crop(self, window: Window) -> Image:
        """A window of this frame, in the frame's own pixels."""


class ClipFrame:
    """A frame whose pixels are read when they are asked for, or ahead of time on other threads (`prefetch`)."""

    def __init__(self, index: int, size: tuple[int, int], read: Callable[[int], Image],
                 resize: Callable[[Image], Image] = lambda image: image, reference: int | None = None) -> None:
        """size: width and height of the session's frames. read: gives a frame of the clip. resize: makes it a model's input.
        reference: see `FrameSource`."""
        self.index = index
        self.reference = reference
        self.width, self.height = size
        self._read = read
        self._resize = resize
        self._inputs: dict[int, Future[Image]] = {}
        self._whole: Future[Image] | None = None

    def prefetch(self, pool: Executor, inputs: Iterable[int], *, whole: bool = False) -> None:
        """Read ahead on `pool`: the model's inputs for these frames and, with `whole`, this frame in its own pixels."""
        if whole and self._whole is None:
            self._whole = pool.submit(self._read, self.index)
        for index in inputs:
            if index not in self._inputs:
                self._inputs[index] = pool.submit(self._input, index)

    @property
    def reads(self) -> list[Future[Image]]:
        """What is being read ahead."""
        return [*self._inputs.values(), *([] if self._whole is None else [self._whole])]

    def pixels(self, index: int | None = None) -> Image:
        """The model's input for this frame, or for another frame of the clip."""
        index = self.index if index is None else index
        ahead = self._inputs.get(index)
        return self._input(index) if ahead is None else ahead.result()

    def crop(self, window: Window) -> Image:
        """A window of this frame, in the frame's own pixels."""
        whole = self._read(self.index) if self._whole is None else self._whole.result()
        return cut(whole, window, self.width, self.height)

    def _input(self, index: int) -> Image:
        return self._resize(self._read(index))


def cut(image: Image, window: Window, width: int, height: int) -> Image:
    """A window (h, w, 3) of an image that shows a frame of width x height, in the image's own pixels."""
    rows, columns = image.shape[:2]
    x0, x1 = window.x0 * columns // width, -(-window.x1 * columns // width)
    y0, y1 = window.y0 * rows // height, -(-window.y1 * rows // height)
    return image[y0:y1, x0:x1]


def resized(image: Array, columns: int, rows: int) -> Array:
    """(h, w) or (h, w, C) -> (rows, columns) or (rows, columns, C), by the means of areas where it gets smaller."""
    smaller = rows * columns < image.shape[0] * image.shape[1]
    return cast(Array, cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))


def shrunk(logits: Floats, side: int) -> Floats:
    """(rows, columns) -> (side, side)."""
    return np.asarray(cv2.resize(logits, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def upsample(logits: Floats, crop: Crop | None, width: int, height: int, columns: int, rows: int) -> Floats:
    """Logits (s, s) for a frame of width x height as (rows, columns), bilinear, with pixel centres aligned as in torch's
    `align_corners=False`. The logits of a crop replace those of the whole frame within its window."""
    whole = np.asarray(cv2.resize(logits, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    if crop is not None:
        window = crop.window
        x0, x1 = round(window.x0 / width * columns), round(window.x1 / width * columns)
        y0, y1 = round(window.y0 / height * rows), round(window.y1 / height * rows)
        if x1 > x0 and y1 > y0:
            whole[y0:y1, x0:x1] = cv2.resize(crop.logits, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    return whole
