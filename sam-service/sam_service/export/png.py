"""`png`: a folder of black and white masks for each object, and an index."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator

from sam_service.export.archive import Member, folder_names, zip_stream
from sam_service.export.clip import Clip, Masks, Options
from sam_service.masks.png import encode_png


def write_png(clip: Clip, options: Options) -> Generator[bytes, None, None]:
    """`index.json`, then `masks/<object>/<frame>.png` for every mask that is stored: 8-bit grey, 0 and 255."""
    return zip_stream(_members(clip))


def _members(clip: Clip) -> Generator[Member, None, None]:
    folders = folder_names({item.object_id: item.name for item in clip.objects})
    yield Member("index.json", _index(clip, folders), compress=True)
    for index, masks in clip.masked_frames():
        for mask in masks:
            yield Member(f"masks/{folders[mask.object_id]}/{index:05d}.png", encode_png(clip.pixels(mask)))


def _index(clip: Clip, folders: dict[int, str]) -> Iterator[bytes]:
    """The index as JSON, a frame at a time."""
    head = {
        "session_id": clip.session_id, "video_name": clip.video_name, "width": clip.width, "height": clip.height,
        "fps": clip.fps, "start_frame": clip.first, "end_frame": clip.last,
        "objects": [{"object_id": item.object_id, "name": item.name, "color": "#{:02x}{:02x}{:02x}".format(*item.colour),
                     "folder": f"masks/{folders[item.object_id]}"} for item in clip.objects]}
    yield json.dumps(head, ensure_ascii=False, indent=1)[:-2].encode() + b',\n "frames": ['
    comma = b"\n  "
    for index, masks in clip.stored_masks():
        yield comma + json.dumps(_frame(clip, index, masks)).encode()
        comma = b",\n  "
    yield b"\n ]\n}\n"


def _frame(clip: Clip, index: int, masks: Masks) -> dict[str, object]:
    return {"frame_idx": index, "timestamp_s": clip.timestamp_s(index), "objects": [
        {"object_id": mask.object_id, "score": round(mask.score, 5), "object_score": round(mask.object_score, 5)}
        for mask in masks]}
