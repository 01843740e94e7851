"""What a video file is, before anything is stored of it."""

from __future__ import annotations

from pathlib import Path

from sam_service.video.limits import VideoInfo, VideoLimits
from sam_service.video.process import DecodingProcess


def probe(path: Path, limits: VideoLimits) -> VideoInfo:
    """Decode the first picture of `path` in a process of its own and say what the video is. Raises as that's `open`."""
    with DecodingProcess(path, limits) as process:
        return process.open()
