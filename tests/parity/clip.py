"""The clip that the parity tests run on: 14 small frames, drawn by numpy, kept as JPEG so that both sides see the same.

    python clip.py      draws the frames again (other bits under another libjpeg: record the reference again, too)

Needs numpy and Pillow only: it is used by the project's tests and by the recorder in the peer's environment.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FRAMES = 14
WIDTH, HEIGHT = 160, 120
FRAMES_FOLDER = Path(__file__).parent / "reference" / "frames"
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def disk(frame: int) -> NDArray[np.bool_]:
    """Where the disk is on `frame`: (HEIGHT, WIDTH). It moves to the right and down."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside: NDArray[np.bool_] = (x - 50 - 4 * frame) ** 2 + (y - 45 - 2 * frame) ** 2 < 20**2
    return inside


def bar(frame: int) -> NDArray[np.bool_]:
    """Where the bar is on `frame`: (HEIGHT, WIDTH). It moves to the left, below the disk."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside: NDArray[np.bool_] = (abs(x - 125 + 3 * frame) < 16) & (abs(y - 85 + frame) < 11)
    return inside


def draw(frame: int) -> NDArray[np.uint8]:
    """One frame: (HEIGHT, WIDTH, 3) RGB, a drifting texture with a striped disk over a chequered bar."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    phases = np.array([0.0, 1.1, 2.3])
    texture = np.sin((x + frame)[..., None] / (7 + 3 * phases)) + np.cos((y - frame)[..., None] / (9 - 2 * phases))
    image = 110 + 28 * texture
    chequers = ((x // 6 + y // 6) % 2)[..., None] * np.array([70.0, 50.0, 10.0])
    image = np.where(bar(frame)[..., None], np.array([40.0, 120.0, 190.0]) + chequers, image)
    stripes = 40 * np.sin((x + y)[..., None] / 4) * np.array([1.0, 0.4, 0.2])
    image = np.where(disk(frame)[..., None], np.array([200.0, 70.0, 50.0]) + stripes, image)
    pixels: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return pixels


def network_input(frame: int, image_size: int) -> NDArray[np.float32]:
    """One kept frame as the network wants it: (3, image_size, image_size), resized by Pillow and normalised.

    The steps and their order are those of the reference (sam2 1.1.0, `utils/misc.py`), so that no difference in the
    logits can come from the pixels.
    """
    with Image.open(FRAMES_FOLDER / f"{frame:05d}.jpg") as image:
        pixels = np.asarray(image.convert("RGB").resize((image_size, image_size)))
    scaled = (pixels / 255.0).astype(np.float32)
    return np.ascontiguousarray(((scaled - MEAN) / STD).transpose(2, 0, 1))


def write_frames() -> None:
    """Draw every frame into FRAMES_FOLDER, named as the reference wants them: 00000.jpg onwards."""
    FRAMES_FOLDER.mkdir(parents=True, exist_ok=True)
    for frame in range(FRAMES):
        Image.fromarray(draw(frame)).save(FRAMES_FOLDER / f"{frame:05d}.jpg", quality=95)


if __name__ == "__main__":
    write_frames()
