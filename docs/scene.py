"""A made-up clip for the documents' pictures: a striped balloon drifts over hills while a ball bounces below.

    PYTHONPATH=sam-service python docs/scene.py out/scene.mp4
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FRAMES, FPS = 960, 540, 96, 24.0
BALLOON, BALL = (250, 150), (700, 400)
"""Where to click on frame 0, in pixels."""
_SCALE = 16  # OpenCV draws with this many parts of a pixel
_STRIPES = ((52, 96, 226), (236, 232, 226), (60, 168, 240))


def render_scene(path: Path, seed: int = 3) -> Path:
    """Write the clip as MPEG-4 and return its path. Raises OSError where it cannot be written."""
    rng = np.random.default_rng(seed)
    ground = _landscape(rng)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise OSError(f"cannot write the clip {path}")
    for index in range(FRAMES):
        image = ground[:, index: index + WIDTH].copy()
        _draw_balloon(image, *balloon_at(index), np.sin(index / 19) / 12)
        _draw_ball(image, *ball_at(index), index * 0.11)
        writer.write((image + rng.normal(0, 2.5, image.shape)).clip(0, 255).astype(np.uint8))
    writer.release()
    return path


def balloon_at(index: int) -> tuple[float, float]:
    """The balloon's centre on a frame, pixels."""
    return BALLOON[0] + 3.6 * index, BALLOON[1] + 22 * float(np.sin(index / 14))


def ball_at(index: int) -> tuple[float, float]:
    """The ball's centre on a frame, pixels."""
    return BALL[0] - 4.4 * index, float(BALL[1] + 60 - 130 * abs(np.sin(np.pi * index / 30 + 0.5)))


def _landscape(rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W + FRAMES, 3) uint8 BGR: a sky with clouds, three ranges of hills."""
    width = WIDTH + FRAMES
    down = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    image = np.array([214, 166, 112], np.float32) * (1 - down) + np.array([236, 226, 206], np.float32) * down
    image = image + 34 * np.clip(_noise(rng, width, (3, 8, 20)), 0, None) ** 1.5
    across = np.arange(width)
    for top, height, colour in ((300, 34, (150, 150, 116)), (365, 28, (92, 136, 88)), (430, 16, (56, 116, 66))):
        phases = rng.uniform(0, 6, 3)
        ridge = top + height * sum(np.sin(across / span + phase) / (k + 1) for k, (span, phase) in
                                   enumerate(zip((130, 57, 23), phases, strict=True)))
        hill = np.arange(HEIGHT)[:, None] > ridge[None]
        grain = _noise(rng, width, (9, 40, 130))
        image = np.where(hill[..., None], np.array(colour, np.float32) + 20 * grain, image)
    return image.clip(0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, width: int, cells: tuple[int, ...]) -> NDArray[np.float32]:
    """(H, W, 1) in about -1…1: smooth noise at several scales."""
    total = np.zeros((HEIGHT, width), np.float32)
    for count in cells:
        coarse = rng.uniform(-1, 1, (count, count * 2)).astype(np.float32)
        total += cv2.resize(coarse, (width, HEIGHT), interpolation=cv2.INTER_CUBIC) / len(cells) * 1.6
    return total[..., None]


def _draw_balloon(image: NDArray[np.uint8], x: float, y: float, lean: float) -> None:
    across, tall = 74.0, 88.0
    turn = np.degrees(lean)
    basket = (x - np.sin(lean) * 128, y + np.cos(lean) * 128)
    for side in (-1, 1):
        cv2.line(image, _at(x + side * 40, y + 66), _at(basket[0] + side * 12, basket[1] - 12), (70, 84, 96), 1, cv2.LINE_AA, 4)
    for band in range(6, 0, -1):  # narrower ellipses over wider ones make the stripes
        cv2.ellipse(image, _at(x, y), _at(across * band / 6, tall), turn, 0, 360, _STRIPES[band % 3], -1, cv2.LINE_AA, 4)
    corners = np.array([(-14, -12), (14, -12), (11, 12), (-11, 12)]) + basket
    cv2.fillConvexPoly(image, (corners * _SCALE).astype(np.int32), (48, 84, 128), cv2.LINE_AA, 4)


def _draw_ball(image: NDArray[np.uint8], x: float, y: float, angle: float) -> None:
    radius = 42
    cv2.circle(image, _at(x, y), radius * _SCALE, (44, 178, 246), -1, cv2.LINE_AA, 4)
    for turn in range(4):
        start = np.degrees(angle) + turn * 90
        cv2.ellipse(image, _at(x, y), _at(radius, radius), 0, start, start + 45, (158, 60, 96), -1, cv2.LINE_AA, 4)
    cv2.circle(image, _at(x, y), 9 * _SCALE, (240, 240, 240), -1, cv2.LINE_AA, 4)


def _at(x: float, y: float) -> tuple[int, int]:
    return round(x * _SCALE), round(y * _SCALE)


if __name__ == "__main__":
    print(render_scene(Path(sys.argv[1])))
