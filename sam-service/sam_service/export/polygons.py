"""Polygons for formats that know no holes and want an object in one piece: rings joined by bridges of no width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_service.masks.polygons import mask_to_polygons

Ring = NDArray[Any]
MAX_COMPARED = 512


def one_polygon(mask: NDArray[np.bool_]) -> list[float]:
    """The outline of a mask (H, W) as a single polygon [x0, y0, x1, y1, …], pixels; [] for an empty mask.

    Straightened within half a pixel, as `masks.polygons` does. Parts and holes are joined by bridges of no width, which neither
    the even-odd nor the non-zero rule fills.
    """
    rings = [np.asarray(polygon).reshape(-1, 2) for polygon in mask_to_polygons(mask)]
    polygon: list[float] = joined(rings).ravel().tolist() if rings else []
    return polygon


def joined(rings: Sequence[Ring]) -> Ring:
    """One ring (N, 2) that walks all `rings`, going over to each at the point that is nearest to it and coming back there."""
    whole, *others = sorted(rings, key=len, reverse=True)
    for ring in others:
        here, there = _nearest(whole, ring)
        detour = np.concatenate((ring[there:], ring[: there + 1]))
        whole = np.concatenate((whole[: here + 1], detour, whole[here:]))
    return whole


def _nearest(a: Ring, b: Ring) -> tuple[int, int]:
    """Indices of the points of two rings that are nearest to each other, among at most MAX_COMPARED of each."""
    step_a, step_b = (-(-len(ring) // MAX_COMPARED) for ring in (a, b))
    distances = ((a[::step_a, None].astype(np.float32) - b[None, ::step_b]) ** 2).sum(axis=2)
    here, there = np.unravel_index(distances.argmin(), distances.shape)
    return int(here) * step_a, int(there) * step_b
