"""Procedural patterns."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
SIZE = 256  # side of every texture


def _noise(rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise (SIZE, SIZE) in about -1..1, of a few octaves and a random roughness and direction."""
    total = np.zeros((SIZE, SIZE), np.float32)
    roughness = rng.uniform(0.3, 0.9)
    base = rng.uniform(1.5, 8, 2)
    for octave in range(5):
        cells = np.minimum(base * 2**octave + 2, SIZE).astype(int)
        layer = rng.normal(0, 0.5, (cells[0], cells[1])).astype(np.float32)
        total += roughness**octave * cv2.resize(layer, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return total


def _waves(rng: np.random.Generator) -> NDArray[np.float32]:
    """Stripes, checks or rings (SIZE, SIZE) in -1..1, warped by noise."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE - 0.5
    angle, rate = rng.uniform(0, np.pi), rng.uniform(3, 24)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    bend = rng.uniform(0, 0.15) * _noise(rng)
    kind = rng.integers(3)
    if kind == 0:
        wave = np.sin(2 * np.pi * rate * (u + bend))
    elif kind == 1:
        wave = np.sin(2 * np.pi * rate * (u + bend)) * np.sin(2 * np.pi * rate * (v + bend))
    else:
        wave = np.sin(2 * np.pi * rate * (np.hypot(u, v) + bend))
    return np.asarray(np.sign(wave) if rng.random() < 0.5 else wave, dtype=np.float32)


def _spots(rng: np.random.Generator) -> NDArray[np.float32]:
    """Round and angular spots (SIZE, SIZE) of random levels in -1..1 on an even ground."""
    canvas = np.full((SIZE, SIZE), rng.uniform(-1, 1), np.float32)
    for _ in range(rng.integers(8, 60)):
        x, y = (int(v) for v in rng.integers(0, SIZE, 2))
        level, radius = rng.uniform(-1, 1), int(rng.integers(3, 40))
        if rng.random() < 0.5:
            cv2.circle(canvas, (x, y), radius, level, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(canvas, (x, y), (x + radius, y + int(rng.integers(3, 40))), level, -1)
    return canvas


def procedural(rng: np.random.Generator) -> Image:
    """One pattern (SIZE, SIZE, 3): one or two fields, each spread over a random line in colour space."""
    image = np.tile(rng.uniform(20, 235, 3).astype(np.float32), (SIZE, SIZE, 1))
    if rng.random() < 0.1:
        return image.astype(np.uint8)
    fields = (_noise, _noise, _waves, _spots)
    for _ in range(rng.integers(1, 3)):
        field = fields[rng.integers(len(fields))](rng)
        image += field[..., None] * rng.normal(0, rng.uniform(8, 50), 3).astype(np.float32)
    return np.asarray(image.clip(0, 255), dtype=np.uint8)
