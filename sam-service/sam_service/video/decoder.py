"""One pass over a video, from its first picture to its last, through OpenCV's bundled FFmpeg.

What OpenCV does, checked with 5.0:

* Phone clips come out upright: `CAP_PROP_ORIENTATION_AUTO` is on by default for quarter turns, and the width and
  height it reports are already swapped. Mirrored clips are not mirrored back.
* A picture that cannot be decoded is passed over inside `grab`, or makes it say False although more pictures follow;
  asking again goes on, and the next picture keeps its own timestamp. Damage that the codec conceals is not told.
* Some streams report position 0 for their last pictures. The caller repairs that.
* `CAP_PROP_FOURCC` names the codec that was chosen, in one spelling whatever the container calls it.
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

from sam_service.errors import NotAVideo
from sam_service.video.source import container_of, open_source

FALLBACK_FPS = 30.0
"""Frames a second for a container that claims none, or none that can be true."""

_MAX_FPS = 1000.0
_MAX_FRAMES = 10**9
_GRAB_ATTEMPTS = 4096  # damaged pictures in a row; at the end of a file an attempt costs 1 to 3 microseconds
_CODECS = {
    "H.264": "h264 avc1 x264",
    "HEVC": "hevc hvc1 hev1 h265",
    "AV1": "av01",
    "VP8": "vp80",
    "VP9": "vp90 vp09",
    "MPEG-4": "fmp4 mp4v mp42 mp43 div3",
    "MPEG-1/2": "mpg1 mpg2 mpeg",
    "MJPEG": "mjpg",
    "ProRes": "apch apcn apcs apco ap4h ap4x",
    "DNxHD": "avdn avdh",
    "H.263": "h263 s263 flv1",
    "FFV1": "ffv1",
}
_FOURCCS = frozenset(" ".join(_CODECS.values()).split())
_CAPTURE_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,avi,mpegts,mpeg,flv",
    "codec_whitelist": "h264,hevc,av1,libdav1d,libaom-av1,vp8,vp9,libvpx,libvpx-vp9,mpeg4,msmpeg4v2,msmpeg4,mpeg1video,"
    "mpeg2video,mpegvideo,mjpeg,prores,dnxhd,h263,flv,ffv1,aac,mp3,mp3float,ac3,eac3,mp2,mp2float,opus,vorbis,flac",
    "max_streams": "64",
}
"""FFmpeg's own guards: no protocol but files, the containers of `containers.py`, few streams; while it looks into the
streams it opens no decoder but these. Without a sound track's decoder it would read on in vain."""


@cache
def prepare_decoder() -> None:
    """Guard FFmpeg and keep its messages off standard error, for the whole process.

    A damaged file makes FFmpeg print a line per broken block, with the file's contents in it. Its level and its
    options can only be given through OpenCV's variables, before OpenCV opens or writes its first video: a
    program that does so by itself calls this first. A level that the operator set stays.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "|".join(f"{name};{value}" for name, value in _CAPTURE_OPTIONS.items())
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


class Decoder:
    """A video that is open for one pass. Use it as a context manager, from one thread.

    Attributes:
        container: what the file is.
        width, height: pixels of the pictures as displayed, upright.
        fps: frames a second; `FALLBACK_FPS` when the container's own figure cannot be true.
        frame_count: source frames the container announces, None when it does not know.
    """

    def __init__(self, source: Path | int, *, threads: int = 1) -> None:
        """Open a file, or one that is open already, with `threads` decoding threads.

        Raises as `open_source` and `container_of`, and `NotAVideo` without a stream, or with a codec (code
        `codec_not_accepted`) that is not on the list.
        """
        prepare_decoder()
        descriptor = source if isinstance(source, int) else open_source(source)
        try:
            self.container = container_of(descriptor)
            # By its descriptor the file has no name in which FFmpeg could see a protocol, a pattern or a format.
            name = f"/dev/fd/{descriptor}"
            self._capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
        finally:
            if descriptor is not source:
                os.close(descriptor)
        if not self._capture.isOpened():
            raise NotAVideo("the file holds no video that can be decoded", field="video_path", code="no_frames")
        codec = _fourcc(self._capture.get(cv2.CAP_PROP_FOURCC))
        if codec not in _FOURCCS:
            accepted = ", ".join(_CODECS)
            raise NotAVideo(
                f"the video's codec is not one of the accepted ones: {accepted}", field="video_path", code="codec_not_accepted"
            )
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.fps = _sane_fps(self._capture.get(cv2.CAP_PROP_FPS))
        self.frame_count = _sane_count(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def grab(self) -> bool:
        """Decode the next picture, without converting it. False at the end of the video."""
        return any(self._capture.grab() for _ in range(_GRAB_ATTEMPTS))

    def picture(self) -> npt.NDArray[np.uint8] | None:
        """Return the grabbed picture as BGR, uint8 (H, W, 3), upright; None when it cannot be converted.

        Raises MemoryError where there is not enough.
        """
        try:
            ok, image = self._capture.retrieve()
        except cv2.error as error:
            if error.code == cv2.Error.StsNoMem:
                raise MemoryError from error
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


def _fourcc(code: float) -> str:
    return int(code).to_bytes(8, "little", signed=True)[:4].decode("latin-1").lower()


def _sane_fps(fps: float) -> float:
    return fps if math.isfinite(fps) and 0 < fps <= _MAX_FPS else FALLBACK_FPS


def _sane_count(count: float) -> int | None:
    return int(count) if math.isfinite(count) and 0 < count < _MAX_FRAMES else None
