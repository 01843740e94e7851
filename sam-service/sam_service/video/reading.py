"""Which pictures of an open video become frames, and at which times. Runs in the decoding process."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

from sam_service.errors import InvalidInput, NotAVideo
from sam_service.video.clock import mean_rate
from sam_service.video.job import Job
from sam_service.video.limits import VideoInfo, VideoLimits
from sam_service.video.stills import Source
from sam_service.video.wire import EncodedFrame


def look_into(source: Source, limits: VideoLimits) -> VideoInfo:
    """Decode the first picture and say what the video is; the picture stays grabbed.

    Raises:
        NotAVideo: (code `no_frames`) not one picture can be decoded.
        TooLarge: over a limit.
    """
    limits.check_picture(source.width, source.height)
    picture = None
    if source.grab():
        limits.check_picture(*source.stored_size)
        limits.check_picture(source.width, source.height)
        picture = source.picture(source.width, source.height)
    if picture is None:
        raise _no_frames()
    count = source.frame_count
    info = VideoInfo(source.width, source.height, source.fps, count, count / source.fps if count else None, source.container,
                     float(source.pixel_aspect))
    limits.check(info)
    return info


class Reading:
    """One pass over a video whose first picture is grabbed already. Iterating gives the frames, and None in between.

    A source frame that the decoder passes over for damage has no number; frames after it keep their own times. After the last
    frame `truncated` says whether `max_frames` cut the video off, `missing_frames` how many source frames were there and could
    not be decoded, `fps` how many there are a second on average, `size_changed` whether some had another size than the first.
    """

    def __init__(self, source: Source, job: Job, limits: VideoLimits) -> None:
        self._source = source
        self._job = job
        self._limits = limits
        self._stored = job.stored
        self._last_s = job.last_timestamp_s
        self.truncated = False
        self.missing_frames = 0
        self.fps = source.fps
        self.size_changed = False

    def __iter__(self) -> Iterator[EncodedFrame | None]:
        """Raises InvalidInput, NotAVideo and TooLarge."""
        job, source = self._job, self._source
        wanted = job.last_source_index + job.frame_stride if job.stored else job.start_frame
        number = undecodable = 0
        last_s = 0.0
        grabbed = True
        while grabbed:
            last_s = source.time_s
            self._limits.check_length(number + 1, last_s)
            if number == wanted:
                if self._stored == job.max_frames:
                    self.truncated = True
                    break
                frame = self._frame(number)
                undecodable += frame is None
                wanted += job.frame_stride
                yield frame
            else:
                yield None
            number += 1
            grabbed = source.grab()
        if not self.truncated:
            self.fps = mean_rate(number, last_s, self.fps) or self.fps
        self.size_changed = source.size_changed
        self._end(number, undecodable)

    def _frame(self, number: int) -> EncodedFrame | None:
        """The grabbed picture, source frame `number`. None when it cannot be converted."""
        job, source = self._job, self._source
        self._limits.check_picture(*source.stored_size)
        picture = source.picture(job.width, job.height)
        if picture is None:
            return None
        # A store of an earlier version may hold a time that this one would not have given.
        self._last_s = source.time_s if source.time_s > self._last_s else self._last_s + 1 / source.fps
        self._stored += 1
        return EncodedFrame(self._last_s, number, raw(picture) if job.raw else encode(picture, job.jpeg_quality))

    def _end(self, number: int, undecodable: int) -> None:
        """Count what is missing after `number` decodable source frames, or say why there is no frame at all."""
        start, source = self._job.start_frame, self._source
        if self._stored == 0:
            if number <= start:
                raise InvalidInput(f"start_frame is {start}, but the video has {number} frames", field="start_frame")
            raise _no_frames()
        passed_over = 0
        if not self.truncated and source.container.lists_every_frame and source.frame_count is not None:
            passed_over = max(0, source.frame_count - number)
        self.missing_frames = passed_over + undecodable


def encode(picture: Image.Image, quality: int) -> bytes:
    """Return a picture, RGB or RGBX, as a JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def raw(picture: Image.Image) -> bytes:
    """Return a picture, RGB or RGBX, as its bytes: RGB, row by row."""
    return picture.convert("RGB").tobytes()


def _no_frames() -> NotAVideo:
    return NotAVideo("the video holds no frame that can be decoded", code="no_frames")
