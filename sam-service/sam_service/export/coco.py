"""`coco`: one JSON document with compressed RLE or polygons, and with the fields of the COCO dialects for video."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from itertools import count

from sam_service.export.archive import safe_name
from sam_service.export.clip import Clip, Options, Segmentation
from sam_service.export.polygons import one_polygon
from sam_service.masks.rle import rle_area, rle_bbox

VIDEO_ID = 1


def write_coco(clip: Clip, options: Options) -> Generator[bytes, None, None]:
    """The document, a frame at a time. `images` are the frames that have masks; an empty mask is no annotation."""
    names = category_names(clip)
    categories = {name: number for number, name in enumerate(names, start=1)}
    video = safe_name(clip.video_name.rpartition(".")[0] or clip.video_name, "video")
    head = {
        "info": {"description": f"masks of {clip.video_name}, session {clip.session_id}", "version": "1.0"},
        "licenses": [],
        "videos": [{"id": VIDEO_ID, "name": video, "width": clip.width, "height": clip.height, "length": clip.num_frames,
                    "fps": clip.fps, "start_frame": clip.first, "end_frame": clip.last}],
        "categories": [{"id": number, "name": name, "supercategory": "object"} for name, number in categories.items()]}
    yield json.dumps(head, ensure_ascii=False)[:-1].encode() + b', "images": ['
    yield from _items(_image(clip, video, index) for index, _ in clip.stored_masks())
    yield b'], "annotations": ['
    yield from _items(_annotations(clip, categories, options.segmentation))
    yield b"]}\n"


def category_names(clip: Clip) -> list[str]:
    """The objects' names, each once: objects of the same name are of the same category."""
    return list(dict.fromkeys(item.name for item in clip.objects))


def _image(clip: Clip, video: str, index: int) -> dict[str, object]:
    return {"id": index + 1, "file_name": f"{video}/{index:05d}.jpg", "width": clip.width, "height": clip.height,
            "video_id": VIDEO_ID, "frame_id": index, "frame_index": index, "timestamp_s": clip.timestamp_s(index)}


def _annotations(clip: Clip, categories: dict[str, int], segmentation: Segmentation) -> Iterator[dict[str, object]]:
    category = {item.object_id: categories[item.name] for item in clip.objects}
    numbers = count(1)
    for index, masks in clip.masked_frames():
        for mask in masks:
            bbox = rle_bbox(rle := clip.rle(mask))
            if bbox is not None:
                form = rle if segmentation == "rle" else [one_polygon(clip.pixels(mask))]
                yield {"id": next(numbers), "image_id": index + 1, "video_id": VIDEO_ID,
                       "category_id": category[mask.object_id], "iscrowd": 0, "track_id": mask.object_id,
                       "instance_id": mask.object_id, "segmentation": form, "area": rle_area(rle), "bbox": bbox,
                       "score": round(mask.score, 5), "object_score": round(mask.object_score, 5)}


def _items(items: Iterable[dict[str, object]]) -> Iterator[bytes]:
    """The items of a JSON list, one for each piece."""
    comma = b"\n"
    for item in items:
        yield comma + json.dumps(item, ensure_ascii=False).encode()
        comma = b",\n"
