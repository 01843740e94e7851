"""A small picture of a video, to choose it by."""

from __future__ import annotations

from pathlib import Path

from sam_service.errors import NotAVideo
from sam_service.video.job import Job
from sam_service.video.limits import VideoLimits
from sam_service.video.process import DecodingProcess

JPEG_QUALITY = 80


def cover(path: Path, limits: VideoLimits, max_side: int) -> bytes:
    """The first picture of a video, or of a folder of pictures, as JPEG of at most `max_side` pixels a side.

    It is decoded in a process of its own. Raises as `DecodingProcess.open`.
    """
    with DecodingProcess(path, limits) as process:
        info = process.open()
        shrink = min(1.0, max_side / max(info.width, info.height))
        width, height = (max(1, round(side * shrink)) for side in (info.width, info.height))
        for frame in process.frames(Job(0, 1, 1, width, height, JPEG_QUALITY)):
            return frame.data
    raise NotAVideo("no picture of the video can be decoded", code="no_frames")
