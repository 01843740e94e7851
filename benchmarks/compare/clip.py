"""The clip as JPEG files that every contender reads, and where it is clicked."""

from __future__ import annotations

from pathlib import Path

import cv2

from benchmarks.propagation import render

JPEG_QUALITY = 95


def write_frames(folder: Path, video: Path | None, frames: int) -> tuple[int, int]:
    """Write the first `frames` frames of a video, or of a made-up clip, to `folder` as 00000.jpg onwards; width and height.

    Raises ValueError for a video that cannot be read or is shorter.
    """
    folder.mkdir(parents=True)
    path = video or render(folder.parent / "clip.mp4", frames)
    capture = cv2.VideoCapture(str(path))
    try:
        for index in range(frames):
            found, picture = capture.read()
            if not found:
                raise ValueError(f"{path.name} gives {index} frames, and {frames} are asked for (--frames)")
            cv2.imwrite(str(folder / f"{index:05d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    finally:
        capture.release()
    height, width = picture.shape[:2]
    return width, height


def clicks(count: int, width: int, height: int, given: list[list[float]]) -> list[list[float]]:
    """One point (x, y) in pixels for each of `count` objects: those given, then the middle of frame 0 and around it."""
    made_up = [[width * (0.5 + 0.2 * (number % 3)), height * (0.5 + 0.15 * (number // 3 % 4))] for number in range(count)]
    return [*given, *made_up[len(given):]][:count]
