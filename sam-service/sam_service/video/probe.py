"""What a video file is, before anything is stored of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam_service.errors import NotAVideo, TooLarge
from sam_service.video.containers import Container
from sam_service.video.decoder import Decoder


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """What a video may be at most."""

    max_pixels: int = 8192 * 8192
    """Width times height of a source picture."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A video that has at least one picture.

    Attributes:
        width, height: pixels as displayed, upright.
        fps: frames a second, always above 0 and at most 1000.
        num_frames: source frames by the container's word, None when it has none. An estimate.
        duration_s: seconds by the same estimate, None without it.
        container: what the file is.
    """

    width: int
    height: int
    fps: float
    num_frames: int | None
    duration_s: float | None
    container: Container


def probe(path: Path, limits: VideoLimits) -> VideoInfo:
    """Open `path`, decode its first picture and say what it is.

    Raises:
        NotFound: (field `video_path`) the file cannot be opened.
        NotAVideo: no accepted container, `empty_file`, or `no_frames` when not one picture can be decoded.
        TooLarge: (code `too_many_pixels`) over `limits.max_pixels`.
    """
    with Decoder(path) as decoder:
        _check_pixels(decoder.width, decoder.height, limits)
        picture = decoder.picture() if decoder.grab() else None
        if picture is None:
            raise NotAVideo("the video holds no frame that can be decoded", field="video_path", code="no_frames")
        height, width = picture.shape[:2]
        _check_pixels(width, height, limits)
        return VideoInfo(
            width=width,
            height=height,
            fps=decoder.fps,
            num_frames=decoder.frame_count,
            duration_s=decoder.frame_count / decoder.fps if decoder.frame_count else None,
            container=decoder.container,
        )


def _check_pixels(width: int, height: int, limits: VideoLimits) -> None:
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"the video has {width} x {height} pixels; the limit is {limits.max_pixels} pixels",
            field="video_path",
            code="too_many_pixels",
        )
