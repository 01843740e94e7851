"""`labelme`: one JSON document a frame, its shapes polygons; what labelme and the tools around it read and write."""

from __future__ import annotations

import json
from collections.abc import Generator

from sam_service.export.archive import Member, safe_name, zip_stream
from sam_service.export.clip import Clip, Masks, Options
from sam_service.masks.polygons import mask_to_polygons

VERSION = "5.5.0"  # of labelme, whose format this is


def write_labelme(clip: Clip, options: Options) -> Generator[bytes, None, None]:
    """`<video>/<frame>.json` for every frame that has masks, and `<video>/<frame>.jpg` if asked for."""
    return zip_stream(_members(clip, options))


def _members(clip: Clip, options: Options) -> Generator[Member, None, None]:
    names = {item.object_id: item.name for item in clip.objects}
    folder = safe_name(clip.video_name.rpartition(".")[0] or clip.video_name, "video")
    with clip.open_pictures() as pictures:
        for index, masks in clip.masked_frames():
            document = json.dumps(_document(clip, index, masks, names), ensure_ascii=False, indent=1)
            yield Member(f"{folder}/{index:05d}.json", document.encode(), compress=True)
            if options.images:
                yield Member(f"{folder}/{index:05d}.jpg", pictures.jpeg(index))


def _document(clip: Clip, index: int, masks: Masks, names: dict[int, str]) -> dict[str, object]:
    """A frame's labels. A part of an object is a shape; the parts have the object's number as `group_id`."""
    shapes = [_shape(names[mask.object_id], mask.object_id, polygon)
              for mask in masks for polygon in mask_to_polygons(clip.pixels(mask))]
    return {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": f"{index:05d}.jpg", "imageData": None,
            "imageHeight": clip.height, "imageWidth": clip.width}


def _shape(label: str, object_id: int, polygon: list[float]) -> dict[str, object]:
    points = [[x, y] for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
    return {"label": label, "points": points, "group_id": object_id, "description": "", "shape_type": "polygon", "flags": {},
            "mask": None}
