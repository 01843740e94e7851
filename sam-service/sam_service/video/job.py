"""What the service asks of a decoding process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """The frames that are wanted: every `frame_stride`th from `start_frame` on, at most `max_frames`, of `width` x `height`
    pixels, as JPEG or, with `raw`, as plain RGB.

    `stored` of them are there already; the last of these is source frame `last_source_index` at `last_timestamp_s` seconds.
    """

    start_frame: int
    frame_stride: int
    max_frames: int | None
    width: int
    height: int
    jpeg_quality: int
    stored: int = 0
    last_source_index: int = -1
    last_timestamp_s: float = -1.0
    raw: bool = False
