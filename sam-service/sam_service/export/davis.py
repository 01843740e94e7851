"""`davis`: one palette PNG a frame, as DAVIS and YouTube-VOS keep their annotations."""

from __future__ import annotations

import io
import json
from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam_service.errors import InvalidInput
from sam_service.export.archive import Member, safe_name, zip_stream
from sam_service.export.clip import Clip, Masks, Options

MAX_OBJECTS = 255


def write_davis(clip: Clip, options: Options) -> Generator[bytes, None, None]:
    """`Annotations/<video>/<frame>.png` for every frame of the range, and `JPEGImages/<video>/<frame>.jpg` if asked for."""
    return zip_stream(_members(clip, options))


def _members(clip: Clip, options: Options) -> Generator[Member, None, None]:
    if len(clip.objects) > MAX_OBJECTS:
        raise InvalidInput(f"a palette holds {MAX_OBJECTS} objects and {len(clip.objects)} are to be exported; choose some",
                           field="object_ids")
    video = safe_name(clip.video_name.rpartition(".")[0] or clip.video_name, "video")
    values = {item.object_id: place for place, item in enumerate(clip.objects, start=1)}
    meta = {"videos": {video: {"objects": {str(values[item.object_id]): {"object_id": item.object_id, "name": item.name}
                                           for item in clip.objects}}}}
    yield Member("meta.json", json.dumps(meta, ensure_ascii=False, indent=1).encode(), compress=True)
    with clip.open_pictures() as pictures:
        for index, masks in clip.all_frames():
            yield Member(f"Annotations/{video}/{index:05d}.png", _palette_png(_labels(clip, masks, values)))
            if options.images:
                yield Member(f"JPEGImages/{video}/{index:05d}.jpg", pictures.jpeg(index))


def _labels(clip: Clip, masks: Masks, values: dict[int, int]) -> NDArray[np.uint8]:
    """(height, width) uint8: each object's value, 0 for the background. A later object lies in front of earlier ones."""
    labels = np.zeros((clip.height, clip.width), np.uint8)
    for mask in sorted(masks, key=lambda mask: values[mask.object_id]):
        labels[clip.pixels(mask)] = values[mask.object_id]
    return labels


def _palette_png(labels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(labels)
    image.putpalette(PALETTE)
    buffer = io.BytesIO()
    image.save(buffer, "png", compress_level=3)
    return buffer.getvalue()


def _palette() -> bytes:
    """The palette of DAVIS, 256 RGB triples: 22 colours whose bits are those of the index, then shades of grey."""
    colours = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for index in range(22):
        for channel in range(3):
            high, low = index >> channel & 1, index >> channel + 3 & 1
            colours[index, channel] = min(191, 128 * high + 64 * low)
    return colours.tobytes()


PALETTE = _palette()
