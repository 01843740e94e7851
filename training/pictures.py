"""Made-up pictures with labels: textured objects of a few parts in front of a textured ground."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.shapes import random_parts
from training.textures import procedural

Image8 = NDArray[np.uint8]
SIZES = ((234, 416), (312, 416), (320, 320))  # height, width


def made_up(rng: np.random.Generator) -> tuple[Image8, Image8]:
    """RGB (H, W, 3) and labels (H, W): one to four objects, the later ones in front."""
    height, width = SIZES[rng.integers(len(SIZES))]
    image = _texture(rng, height, width)
    labels = np.zeros((height, width), np.uint8)
    for label in range(1, 2 + int(rng.integers(4))):
        size = np.exp(rng.uniform(np.log(0.08), np.log(0.35))) * min(height, width)
        centre = rng.uniform(0.1, 0.9, 2) * (width, height)
        fills = [_texture(rng, height, width) for _ in range(2)]
        for part in random_parts(rng):
            cover = np.zeros((height, width), np.uint8)
            outline = part.at(float(rng.uniform(0, 20))) * size + centre
            cv2.fillPoly(cover, [np.round(outline * 8).astype(np.int32)], 255, cv2.LINE_AA, shift=3)
            weight = cover[..., None] / np.float32(255)
            image = np.asarray(image * (1 - weight) + fills[part.texture % 2] * weight, np.uint8)
            labels[cover > 127] = label
    return image, labels


def _texture(rng: np.random.Generator, height: int, width: int) -> Image8:
    """A pattern stretched over the picture."""
    pattern = procedural(rng)
    return np.asarray(cv2.resize(pattern, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
