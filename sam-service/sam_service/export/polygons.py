"""Polygons for formats that know no holes and want an object in one piece: rings joined by bridges of no width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_service.masks.polygons import mask_to_polygons

Ring = NDArray[Any]
MAX_COMPARED = 512  # points of a ring that are tried for the shortest bridge
MAX_BRIDGED = 100  # rings; with more, as of noise, finding the shortest bridges takes too long


def one_polygon(mask: NDArray[np.bool_]) -> list[float]:
    """The outline of a mask (H, W) as a single polygon [x0, y0, x1, y1, …], pixels; [] for an empty mask.

    Straightened within half a pixel, as `masks.polygons` does. Parts and holes are joined by bridges of no width, which neither
    the even-odd nor the non-zero rule fills.
    """
    rings = [np.asarray(polygon).reshape(-1, 2) for polygon in mask_to_polygons(mask)]
    polygon: list[float] = joined(rings).ravel().tolist() if rings else []
    return polygon


def joined(rings: Sequence[Ring]) -> Ring:
    """One ring (N, 2) that walks all `rings`, going over to each and coming back the same way: at the nearest points, or, where
    there are very many, from each to the next."""
    if len(rings) > MAX_BRIDGED:
        return _chained(rings)
    whole, *others = sorted(rings, key=len, reverse=True)
    for ring in others:
        here, there = _nearest(whole, ring)
        detour = np.concatenate((ring[there:], ring[: there + 1]))
        whole = np.concatenate((whole[: here + 1], detour, whole[here:]))
    return whole


def _chained(rings: Sequence[Ring]) -> Ring:
    """Each ring in turn, from first point to first point, to and fro in bands across the picture; then back along them."""
    starts = np.array([ring[0] for ring in rings])
    band = max(1.0, float(np.sqrt(np.prod(np.ptp(starts, axis=0) + 1) / len(rings))))
    row = (starts[:, 1] // band).astype(np.int64)
    order = np.lexsort((np.where(row % 2, -starts[:, 0], starts[:, 0]), row))
    loops = [piece for number in order for piece in (rings[number], rings[number][:1])]
    return np.concatenate((*loops, starts[order[::-1]][1:]))


def _nearest(a: Ring, b: Ring) -> tuple[int, int]:
    """Indices of the points of two rings that are nearest to each other, among at most MAX_COMPARED of each."""
    step_a, step_b = (-(-len(ring) // MAX_COMPARED) for ring in (a, b))
    distances = ((a[::step_a, None].astype(np.float32) - b[None, ::step_b]) ** 2).sum(axis=2)
    here, there = np.unravel_index(distances.argmin(), distances.shape)
    return int(here) * step_a, int(there) * step_b
