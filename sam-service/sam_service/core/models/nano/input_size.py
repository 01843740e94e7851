"""The size at which a frame goes into the network."""

from __future__ import annotations

import functools
import math

GRID = 32
"""Both sides are multiples of it."""


@functools.lru_cache(maxsize=256)
def input_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of the input for frames of `height` x `width`: about side x side pixels, about the frame's aspect."""
    best, found = math.inf, (GRID, GRID)
    for rows in range(GRID, 4 * side + 1, GRID):
        for columns in {max(GRID, math.floor(rows * width / height / GRID + shift) * GRID) for shift in (0, 1)}:
            off = abs(math.log(columns / rows * height / width)) + abs(math.log(rows * columns / side**2))
            if off < best - 1e-9:
                best, found = off, (rows, columns)
    return found
