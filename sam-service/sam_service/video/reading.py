"""Which pictures of an open video become frames, and at which times. Runs in the decoding process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sam_service.errors import InvalidInput, NotAVideo
from sam_service.video.decoder import Decoder
from sam_service.video.limits import VideoInfo, VideoLimits
from sam_service.video.wire import EncodedFrame


@dataclass(frozen=True, slots=True)
class Job:
    """The frames that are wanted: every `frame_stride`th from `start_frame` on, at most `max_frames`, of `width` x `height`
    pixels.

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


def look_into(decoder: Decoder, limits: VideoLimits) -> VideoInfo:
    """Decode the first picture and say what the video is; the picture stays grabbed.

    Raises:
        NotAVideo: (code `no_frames`) not one picture can be decoded.
        TooLarge: over a limit.
    """
    limits.check_picture(decoder.width, decoder.height)
    picture = decoder.picture() if decoder.grab() else None
    if picture is None:
        raise NotAVideo("the video holds no frame that can be decoded", field="video_path", code="no_frames")
    height, width = picture.shape[:2]
    count = decoder.frame_count
    info = VideoInfo(width, height, decoder.fps, count, count / decoder.fps if count else None, decoder.container)
    limits.check(info)
    return info


class Reading:
    """One pass over a video whose first picture is grabbed already. Iterating gives the frames, and None in between.

    A source frame that the decoder passes over for damage has no number, so frames after it keep their own timestamps.
    After the last frame `truncated` says whether `max_frames` cut the video off, and `missing_frames` how many source frames
    were there and could not be decoded.
    """

    def __init__(self, decoder: Decoder, job: Job, limits: VideoLimits) -> None:
        self._decoder = decoder
        self._job = job
        self._limits = limits
        self._stored = job.stored
        self._last = (job.last_source_index, job.last_timestamp_s)
        self.truncated = False
        self.missing_frames = 0

    def __iter__(self) -> Iterator[EncodedFrame | None]:
        """Raises InvalidInput, NotAVideo and TooLarge."""
        job, decoder = self._job, self._decoder
        wanted = self._last[0] + job.frame_stride if job.stored else job.start_frame
        source = undecodable = 0
        grabbed = True
        while grabbed:
            self._limits.check_length(source + 1, decoder.position_s)
            if source == wanted:
                if self._stored == job.max_frames:
                    self.truncated = True
                    break
                frame = self._frame(source)
                undecodable += frame is None
                wanted += job.frame_stride
                yield frame
            else:
                yield None
            source += 1
            grabbed = decoder.grab()
        self._end(source, undecodable)

    def _frame(self, source: int) -> EncodedFrame | None:
        """The grabbed picture, source frame `source`. None when it cannot be converted."""
        picture = self._decoder.picture()
        if picture is None:
            return None
        self._limits.check_picture(picture.shape[1], picture.shape[0])
        jpeg = encode(picture, self._job.width, self._job.height, self._job.jpeg_quality)
        frame = EncodedFrame(self._timestamp_s(source), source, jpeg)
        self._stored += 1
        self._last = (source, frame.timestamp_s)
        return frame

    def _timestamp_s(self, source: int) -> float:
        """Return the container's time of the grabbed picture, or one after the last frame's if that is not later."""
        position = self._decoder.position_s
        last_source, last_s = self._last
        if self._stored == 0:
            return position if math.isfinite(position) and (position > 0 or source == 0) else source / self._decoder.fps
        if math.isfinite(position) and position > last_s:
            return position
        return last_s + (source - last_source) / self._decoder.fps

    def _end(self, source: int, undecodable: int) -> None:
        """Count what is missing after `source` decodable source frames, or say why there is no frame at all."""
        start, decoder = self._job.start_frame, self._decoder
        if self._stored == 0:
            if source <= start:
                raise InvalidInput(f"start_frame is {start}, but the video has {source} frames", field="start_frame")
            raise NotAVideo("the video holds no frame that can be decoded", field="video_path", code="no_frames")
        passed_over = 0
        if not self.truncated and decoder.container.lists_every_frame and decoder.frame_count is not None:
            passed_over = max(0, decoder.frame_count - source)
        self.missing_frames = passed_over + undecodable


def encode(image_bgr: npt.NDArray[np.uint8], width: int, height: int, quality: int) -> bytes:
    """Return a picture, uint8 (H, W, 3) BGR, as a JPEG of `width` x `height` pixels. Raises MemoryError."""
    if image_bgr.shape[1::-1] != (width, height):
        image_bgr = np.asarray(cv2.resize(image_bgr, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    ok, encoded = cv2.imencode(".jpg", image_bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    if not ok:
        raise MemoryError  # nothing else keeps a picture within the limits from being encoded
    return encoded.tobytes()
