"""`yolo`: labels as ultralytics reads them for segmentation, one line for each object on a frame.

A line is a class and one polygon along the pixels at the object's edge, a quarter of a pixel inside each, so that a reader
that cuts coordinates to whole pixels (ultralytics) and one that rounds them (supervision) both paint the mask again. An object
in several parts is still one polygon, its parts joined by a bridge of no width, as in ultralytics' converter from COCO. A
hole is joined to its outline in the same way, and stays empty.
"""

from __future__ import annotations

import json
from collections.abc import Generator

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.export.archive import Member, zip_stream
from sam_service.export.clip import Clip, Masks, Options
from sam_service.export.coco import category_names
from sam_service.export.polygons import joined

Ring = NDArray[np.int32]
INSIDE = 0.25


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
    """The data set's description. A JSON string of printable characters is a YAML string.

    It has no `path`: readers then start from the folder that it lies in, and from their own working folder otherwise.
    """
    printable = ["".join(char if char.isprintable() else " " for char in name) for name in names]
    lines = [f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(printable)]
    return "train: images\nval: images\nnames:\n" + "".join(lines)


def _labels(clip: Clip, masks: Masks, classes: dict[int, int]) -> str:
    lines = []
    for mask in masks:
        points = outline(clip.pixels(mask))
        if len(points):
            fractions = (points + INSIDE) / (clip.width, clip.height)
            lines.append(" ".join([str(classes[mask.object_id]), *(f"{value:.6f}" for value in fractions.ravel())]) + "\n")
    return "".join(lines)


def outline(mask: NDArray[np.bool_]) -> Ring:
    """The one polygon of a mask (H, W), pixels (N, 2) as x and y; at least three points, none for an empty mask."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return np.empty((0, 2), np.int32)
    ring = joined([np.asarray(contour[:, 0], np.int32) for contour in contours])
    return ring if len(ring) >= 3 else np.concatenate((ring, ring[-1:], ring[-1:]))
