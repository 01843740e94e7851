"""Masks of several objects become those of one."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sam_service.core.prompts import MaskPrompt, Prompt
from sam_service.masks.png import encode_png
from sam_service.masks.rle import decode_rle, encode_rle
from sam_service.sessions.records import MaskRecord
from sam_service.sessions.render import as_rle


def united(masks: Iterable[MaskRecord], objects: Collection[int], object_id: int) -> list[MaskRecord]:
    """The masks of objects united on each frame, as those of `object_id`, with the better of their scores. Blocks."""
    by_frame: dict[int, list[MaskRecord]] = {}
    for mask in masks:
        if mask.object_id in objects:
            by_frame.setdefault(mask.frame_index, []).append(mask)
    return [_union(found, object_id) for found in by_frame.values()]


def united_prompts(masks: Iterable[MaskRecord], prompts: Mapping[int, Mapping[int, Prompt]]) -> dict[int, MaskPrompt]:
    """What objects, merged, are prompted with, by frame: on each frame that one of them is prompted on, their masks united.

    prompts: of the objects that are merged. A frame where all of their masks are empty is no prompt. Blocks.
    """
    prompted = {frame for on_frames in prompts.values() for frame in on_frames}
    found = united([mask for mask in masks if mask.frame_index in prompted], prompts.keys(), min(prompts))
    pixels = {mask.frame_index: decode_rle(as_rle(mask)) for mask in found}
    return {frame: MaskPrompt(mask) for frame, mask in sorted(pixels.items()) if mask.any()}


def as_png(mask: NDArray[np.bool_]) -> str:
    """A mask (H, W) as the log keeps it: base64 of a PNG."""
    return base64.b64encode(encode_png(mask)).decode()


def _union(masks: list[MaskRecord], object_id: int) -> MaskRecord:
    first, counts = masks[0], masks[0].counts
    if len(masks) > 1:
        counts = encode_rle(np.logical_or.reduce([decode_rle(as_rle(mask)) for mask in masks]))["counts"]
    return MaskRecord(first.frame_index, object_id, first.height, first.width, counts, max(mask.score for mask in masks),
                      max(mask.object_score for mask in masks), elapsed_ms=0.0)
