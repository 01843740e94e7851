"""`yolo`: labels as ultralytics reads them for segmentation, one line for each object on a frame.

A line is a class and one polygon. An object in several parts becomes one polygon, its parts joined by bridges of no width
between their nearest points, as ultralytics' converter from COCO joins them; a hole hangs on its outline by such a bridge.
"""

from __future__ import annotations

import json
from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from sam_service.export.archive import Member, zip_stream
from sam_service.export.clip import Clip, Masks, Options
from sam_service.export.coco import category_names
from sam_service.masks.polygons import mask_to_polygons

Ring = NDArray[np.float64]


def write_yolo(clip: Clip, options: Options) -> Generator[bytes, None, None]:
    """`data.yaml`, `labels/<frame>.txt` for every frame that has masks, and `images/<frame>.jpg` if asked for."""
    return zip_stream(_members(clip, options))


def _members(clip: Clip, options: Options) -> Generator[Member, None, None]:
    names = category_names(clip)
    classes = {item.object_id: names.index(item.name) for item in clip.objects}
    yield Member("data.yaml", _data_yaml(names).encode(), compress=True)
    with clip.open_pictures() as pictures:
        for index, masks in clip.masked_frames():
            yield Member(f"labels/{index:05d}.txt", _labels(clip, masks, classes).encode(), compress=True)
            if options.images:
                yield Member(f"images/{index:05d}.jpg", pictures.jpeg(index))


def _data_yaml(names: list[str]) -> str:
    """The data set's description. A JSON string of printable characters is a YAML string."""
    printable = ["".join(char if char.isprintable() else " " for char in name) for name in names]
    lines = [f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(printable)]
    return "path: .\ntrain: images\nval: images\nnames:\n" + "".join(lines)


def _labels(clip: Clip, masks: Masks, classes: dict[int, int]) -> str:
    lines = []
    for mask in masks:
        polygons = mask_to_polygons(clip.pixels(mask))
        if polygons:
            ring = joined([np.array(polygon).reshape(-1, 2) for polygon in polygons]) / (clip.width, clip.height)
            lines.append(" ".join([str(classes[mask.object_id]), *(f"{value:.6g}" for value in ring.ravel())]) + "\n")
    return "".join(lines)


def joined(rings: list[Ring]) -> Ring:
    """One ring (N, 2) that walks all `rings`, going over to each at the nearest pair of points and coming back there."""
    whole, *others = sorted(rings, key=len, reverse=True)
    for ring in others:
        distances = ((whole[:, None] - ring[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(distances.argmin(), distances.shape)
        detour = np.concatenate((ring[there:], ring[: there + 1]))
        whole = np.concatenate((whole[: here + 1], detour, whole[here:]))
    return whole
