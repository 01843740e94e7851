"""Frames as a model sees them: where their pixels come from, parts of them, and masks at other resolutions. No torch.

W, H: the session's frame in pixels. s: side of a model's logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import Any, Protocol, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(h, w, 3) RGB."""
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Array = TypeVar("Array", bound=NDArray[Any])


class FrameSource(Protocol):
    """One frame of a clip, and the way to the pixels of that clip.

    index: the frame's number. width, height: of the session's frames, in pixels.
    """

    index: int
    width: int
    height: int

    def pixels(self, index: int | None = None) -> Image:
        """The model's input for this frame, or for another frame of the clip."""


class ClipFrame:
    """A frame whose pixels are read when they are asked for, or ahead of time on other threads (`prefetch`)."""

    def __init__(self, index: int, size: tuple[int, int], read: Callable[[int], Image],
                 resize: Callable[[Image], Image] = lambda image: image) -> None:
        """size: width and height of the session's frames. read: gives a frame of the clip. resize: makes it a model's input."""
        self.index = index
        self.width, self.height = size
        self._read = read
        self._resize = resize
        self._inputs: dict[int, Future[Image]] = {}

    def prefetch(self, pool: Executor, inputs: Iterable[int]) -> None:
        """Read ahead on `pool`: the model's inputs for these frames."""
        for index in inputs:
            if index not in self._inputs:
                self._inputs[index] = pool.submit(self._input, index)

    @property
    def reads(self) -> list[Future[Image]]:
        """What is being read ahead."""
        return list(self._inputs.values())

    def pixels(self, index: int | None = None) -> Image:
        """The model's input for this frame, or for another frame of the clip."""
        index = self.index if index is None else index
        ahead = self._inputs.get(index)
        return self._input(index) if ahead is None else ahead.result()

    def _input(self, index: int) -> Image:
        return self._resize(self._read(index))


def resized(image: Array, columns: int, rows: int) -> Array:
    """(h, w) or (h, w, C) -> (rows, columns) or (rows, columns, C), by the means of areas where it gets smaller."""
    smaller = rows * columns < image.shape[0] * image.shape[1]
    return cast(Array, cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))


def upsample(logits: Floats, columns: int, rows: int) -> Floats:
    """Logits (h, w) of a frame as (rows, columns), bilinear, with pixel centres aligned as in torch's `align_corners=False`."""
    return np.asarray(cv2.resize(logits, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
