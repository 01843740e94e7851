"""One pass over a video, from its first picture to its last, through OpenCV's bundled FFmpeg.

What OpenCV does, checked with 5.0:

* Phone clips come out upright: `CAP_PROP_ORIENTATION_AUTO` is on by default for quarter turns, and the width and
  height it reports are already swapped. Mirrored clips are not mirrored back.
* A picture that cannot be decoded is passed over inside `grab`, or makes it say False although more pictures follow;
  asking again goes on, and the next picture keeps its own timestamp. Damage that the codec conceals is not told.
* Some streams report position 0 for their last pictures. The caller repairs that.
"""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from sam_service.errors import NotAVideo, NotFound
from sam_service.video.containers import SNIFF_BYTES, Container, sniff

FALLBACK_FPS = 30.0
"""Frames a second for a container that claims none, or none that can be true."""

_MAX_FPS = 1000.0
_MAX_FRAMES = 10**9
_GRAB_ATTEMPTS = 4096  # damaged pictures in a row; at the end of a file an attempt costs 1 to 3 microseconds
_VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".flv"}
)


@cache
def silence_decoder() -> None:
    """Keep the decoder's messages off standard error, for the whole process.

    A damaged file makes FFmpeg print a line per broken block, with the file's contents in it. FFmpeg's level can
    only be given through OpenCV's variable, before OpenCV opens or writes its first video: a
    program that does so by itself calls this first. A level that the operator set stays.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def container_of(path: Path) -> Container:
    """Return what `path` is by its first bytes.

    Raises:
        NotFound: (field `video_path`) there is no file that can be read.
        NotAVideo: an empty file (code `empty_file`), or none of the accepted containers.
    """
    if path.is_dir():
        raise NotAVideo("this is a folder, not a video", field="video_path")
    try:
        with path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
    except OSError:
        raise NotFound("the video file cannot be opened", field="video_path") from None
    if "%" in str(path.absolute()) and path.suffix.lower() not in _VIDEO_SUFFIXES:
        # Under a name such as "a%03d.jpg" FFmpeg would rather read a row of image files than what is in this one.
        raise NotAVideo("the file's name holds a % and no video suffix", field="video_path")
    if not head:
        raise NotAVideo("the file is empty", field="video_path", code="empty_file")
    container = sniff(head)
    if container is None:
        accepted = ", ".join(Container)
        raise NotAVideo(f"the file is not one of the accepted containers: {accepted}", field="video_path")
    return container


class Decoder:
    """A video that is open for one pass. Use it as a context manager, from one thread.

    Attributes:
        container: what the file is.
        width, height: pixels of the pictures as displayed, upright.
        fps: frames a second; `FALLBACK_FPS` when the container's own figure cannot be true.
        frame_count: source frames the container announces, None when it does not know.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Open `path` with `threads` decoding threads. Raises as `container_of`, and `NotAVideo` without a stream."""
        silence_decoder()
        self.container = container_of(path)
        # The absolute path: a name such as "concat:a|b" would else be read as a protocol.
        self._capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
        if not self._capture.isOpened():
            raise NotAVideo("the file holds no video that can be decoded", field="video_path", code="no_frames")
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.fps = _sane_fps(self._capture.get(cv2.CAP_PROP_FPS))
        self.frame_count = _sane_count(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def grab(self) -> bool:
        """Decode the next picture, without converting it. False at the end of the video."""
        return any(self._capture.grab() for _ in range(_GRAB_ATTEMPTS))

    def picture(self) -> npt.NDArray[np.uint8] | None:
        """Return the grabbed picture as BGR, uint8 (H, W, 3), upright; None when it cannot be converted."""
        try:
            ok, image = self._capture.retrieve()
        except cv2.error:
            return None
        return np.asarray(image, np.uint8) if ok and image is not None and image.size else None

    @property
    def position_s(self) -> float:
        """Seconds from the start of the video to the grabbed picture, as the container has it: maybe 0 or nan."""
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def close(self) -> None:
        """Give the file and the decoder's memory back. May be called twice."""
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sane_fps(fps: float) -> float:
    return fps if math.isfinite(fps) and 0 < fps <= _MAX_FPS else FALLBACK_FPS


def _sane_count(count: float) -> int | None:
    return int(count) if math.isfinite(count) and 0 < count < _MAX_FRAMES else None
