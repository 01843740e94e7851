"""Masks drawn over frames, and a video of them that browsers play (WebM, written by OpenCV)."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.masks.palette import colour_of


def draw_overlay(image: NDArray[np.uint8], masks: Mapping[int, NDArray[np.bool_]], opacity: float = 0.45, *,
                 colours: Mapping[int, tuple[int, int, int]] | None = None) -> NDArray[np.uint8]:
    """An (H, W, 3) uint8 RGB picture with each (H, W) mask tinted and outlined in its object's colour.

    colours: RGB by object; `colour_of` for those that are not in it.
    """
    drawn = image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 500))
    for object_id, mask in masks.items():
        colour = (colours or {}).get(object_id) or colour_of(object_id)
        inside = np.ascontiguousarray(mask).view(np.uint8)
        x, y, width, height = cv2.boundingRect(inside)
        if width == 0:
            continue
        part = drawn[y : y + height, x : x + width]
        tinted = cv2.addWeighted(part, 1 - opacity, np.full_like(part, colour), opacity, 0)
        cv2.copyTo(tinted, inside[y : y + height, x : x + width], part)
        outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, colour, thickness, cv2.LINE_AA)
    return drawn


class OverlayVideo:
    """Writes a WebM. As a context manager it closes the file at the end. Raises OSError where it cannot be written.

    VP8 takes a quarter of the time of VP9 and a third more bytes; OpenCV passes no speed setting on to either. Only VP9
    is written with `alpha`. Odd sizes are cut by a pixel.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float, *, alpha: bool = False) -> None:
        self._alpha = alpha
        fourcc = cv2.VideoWriter.fourcc(*("VP90" if alpha else "VP80"))
        with _stderr, _quiet_stderr():
            self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, fps, (width, height),
                                           [cv2.VIDEOWRITER_PROP_ENABLE_ALPHA, int(alpha)])
        if not self._writer.isOpened():
            raise OSError(f"cannot write the video {path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.release()

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append an (H, W, 3) uint8 RGB picture, or an (H, W, 4) BGRA one to a video with alpha."""
        self._writer.write(image if self._alpha else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


_stderr = threading.Lock()  # two at once would each restore what the other had put there


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep out what OpenCV writes past its log level: it grumbles about the codec's tag in WebM, and writes it all the same."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
