"""A clip for those who have none at hand: a striped ball that bounces over a garden of noise while the camera drifts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FRAMES, FPS = 640, 360, 72, 24.0
RADIUS = 46
CLICK = (150.0, 200.0)
"""Where the ball is on frame 0, in pixels."""


def render_clip(path: Path, seed: int = 7) -> Path:
    """Write the clip as MPEG-4 and return its path. Raises OSError where it cannot be written."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise OSError(f"cannot write the clip {path}")
    for image in draw_frames(seed):
        writer.write(image)
    writer.release()
    return path


def draw_frames(seed: int = 7) -> Iterator[NDArray[np.uint8]]:
    """The clip's FRAMES pictures, (HEIGHT, WIDTH, 3) BGR."""
    rng = np.random.default_rng(seed)
    ground = _ground(rng)
    for index in range(FRAMES):
        image = ground[20 + index // 3: 20 + index // 3 + HEIGHT, index: index + WIDTH].copy()
        _draw_ball(image, *ball_centre(index), index * 0.09)
        noise = rng.normal(0, 3, image.shape)
        yield (image + noise).clip(0, 255).astype(np.uint8)


def ball_centre(index: int) -> tuple[float, float]:
    """The ball's centre on a frame, pixels."""
    x = CLICK[0] + 4.6 * index
    y = CLICK[1] + 60 - 120 * abs(np.sin(np.pi * index / 24 + np.pi / 6))
    return float(x), float(y)


def _ground(rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H + 60, W + 100, 3) uint8 BGR: noise at four scales, much of it light and dark, little of it colour; like a meadow."""
    height, width = HEIGHT + 60, WIDTH + 100
    ground = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((4, 24), (12, 22), (60, 20), (160, 16)):
        light = rng.uniform(-1, 1, (cells, cells * 2, 1)).astype(np.float32)
        colour = rng.uniform(-1, 1, (cells, cells * 2, 3)).astype(np.float32)
        ground += weight * cv2.resize(0.8 * light + 0.35 * colour, (width, height), interpolation=cv2.INTER_CUBIC)
    return (ground + np.array([62, 118, 84], np.float32)).clip(0, 255).astype(np.uint8)


def _draw_ball(image: NDArray[np.uint8], x: float, y: float, angle: float) -> None:
    centre = (round(x * 16), round(y * 16))
    cv2.circle(image, centre, RADIUS * 16, (40, 60, 215), -1, cv2.LINE_AA, shift=4)
    for turn in range(3):
        start = np.degrees(angle) + turn * 120
        cv2.ellipse(image, centre, (RADIUS * 16, RADIUS * 16), 0, start, start + 35, (215, 225, 235), -1, cv2.LINE_AA, shift=4)
