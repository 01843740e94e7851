"""One pass over a video, from its first picture to its last, through the FFmpeg that PyAV bundles.

Only the decoding process imports this: OpenCV, which the service uses, bundles another FFmpeg, and two of them in one process
do not go together.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from types import TracebackType
from typing import Any, Self, cast

import av
import av.audio.codeccontext
import av.audio.stream  # these, PyAV would load when it comes to them; then this process may read no file any more
import av.error
import av.logging
import av.subtitles.codeccontext
import av.subtitles.stream
import numpy as np
from av.codec.context import ThreadType
from av.filter import Graph
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Discard, Disposition
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from sam_service.errors import NotAVideo
from sam_service.video.clock import Clock, Order, rate_of
from sam_service.video.codecs import CONTAINER_OPTIONS, check_codec
from sam_service.video.containers import DEMUXERS, Container, index_place
from sam_service.video.display import HDR, UPRIGHT, Turn, square_pixels, tone_map, turn_of
from sam_service.video.dolby import require_base_colours

_MAX_FRAMES = 10**9
_MAX_ERRORS = 4096  # damaged packets in a row that are passed over
_AHEAD_PACKETS, _AHEAD_BYTES = 64, 8 << 20  # read before the first picture, to learn the frame rate
_MOST_ENTRIES = 100_000  # of an index that are looked at one by one
_NO_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails


class Decoder:
    """A video that is open for one pass. Use it as a context manager, from one thread.

    Attributes:
        container: what the file is.
        width, height: pixels of the pictures as displayed: upright, and square. Of the first picture, once it is grabbed.
        pixel_aspect: a stored pixel's width divided by its height; 1 where the file says nothing.
        fps: frames a second on average, by what is known before the pictures are decoded.
        frame_count: source frames the container announces, None when it does not know.
        time_s: seconds from the first picture to the grabbed one.
        size_changed: whether a picture so far had another size than the first.
    """

    def __init__(self, descriptor: int, container: Container, *, threads: int = 1) -> None:
        """Decode an open file, by `threads` threads. The descriptor stays the caller's.

        Raises `NotAVideo` without a video stream, or with a codec (code `codec_not_accepted`) that is not on the list.
        """
        self.container = container
        options = {**CONTAINER_OPTIONS, "fd": str(descriptor)}
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            # By its descriptor the file has no name in which FFmpeg could see a protocol, a pattern or a format.
            self._input = av.open("fd:", format=DEMUXERS[container], container_options=options, metadata_errors="replace")
        except av.error.FFmpegError as error:
            _reraise_memory(error)
            if container is Container.MP4 and index_place(descriptor) is None:
                raise NotAVideo("the file has no index of its frames: a recording or an upload that broke off, or one piece of "
                                "a stream without its beginning", code="no_frames") from None
            raise _no_frames() from None
        self._stream = _largest(list(self._input.streams.video))
        require_base_colours(descriptor, container)
        codec = self._stream.codec_context
        codec.thread_count = threads
        codec.thread_type = ThreadType.AUTO if threads > 1 else ThreadType.SLICE
        for other in self._input.streams:
            if other.index != self._stream.index:
                other.discard = Discard.all
        self._ahead: deque[Packet[VideoStream]] = deque()
        self._demuxed = self._demux()
        self._look_ahead()
        self.fps = rate_of(self._stamps_s(), self._claimed_fps())
        self.frame_count = self._count()
        self._clock = Clock(self.fps)
        self._order = Order() if codec.has_b_frames and self._is_rising() else None
        self._reformatter = VideoReformatter()
        self._frames = self._shown()
        self._frame: VideoFrame | None = None
        self._turn = UPRIGHT
        self._first_looks: tuple[int, int, Fraction | None, bool] | None = None  # all of which may change in mid-stream
        self.size_changed = False
        aspect = self._stream.sample_aspect_ratio
        self.pixel_aspect = Fraction(1) if not aspect else Fraction(aspect)
        self.width, self.height = square_pixels(codec.width, codec.height, self.pixel_aspect)

    def grab(self) -> bool:
        """Decode the next picture, without converting it. False at the end of the video. Raises MemoryError."""
        self._frame = next(self._frames, None)
        if self._frame is None:
            return False
        frame = self._frame
        stamp = frame.pts if frame.pts is not None else frame.dts
        base = frame.time_base or self._stream.time_base
        self._clock.tick(float(stamp * base) if stamp is not None and base else None)
        # A codec's own word on how pictures lie comes with the first of a sequence and holds for the others.
        self._turn = _turn(frame) or (UPRIGHT if frame.key_frame else self._turn)
        codec_aspect = self._stream.codec_context.sample_aspect_ratio
        looks = (frame.width, frame.height, codec_aspect, self._turn.transposed)
        if self._first_looks is None:
            self._first_looks = looks
            shown = square_pixels(frame.width, frame.height, self.pixel_aspect)
            self.width, self.height = self._turn.size(*shown)
        self.size_changed |= looks != self._first_looks
        return True

    @property
    def time_s(self) -> float:
        """Seconds from the first picture to the grabbed one."""
        return self._clock.time_s

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the grabbed picture as it is stored, in pixels."""
        return (self._frame.width, self._frame.height) if self._frame is not None else (0, 0)

    def picture(self, width: int, height: int) -> Image.Image | None:
        """Return the grabbed picture upright at `width` x `height` pixels, its channels red, green, blue and one to be ignored.

        None when it cannot be converted. Raises MemoryError.
        """
        assert self._frame is not None
        frame = self._frame
        to = self._turn.size(width, height)
        enlarged = to[0] > frame.width or to[1] > frame.height
        how = Interpolation.BICUBIC if enlarged else Interpolation.AREA
        try:
            plane = self._reformatter.reformat(frame, *to, format="rgb0", interpolation=how, threads=1).planes[0]
        except av.error.FFmpegError as error:
            _reraise_memory(error)
            return None
        image = Image.frombuffer("RGBX", to, cast(bytes, plane), "raw", "RGBX", plane.line_size, 1)
        if frame.color_trc in HDR:
            image = image.convert("RGB").filter(tone_map(frame.color_trc))
        return image if self._turn == UPRIGHT else Image.fromarray(self._turn.apply(np.asarray(image)), image.mode)

    def close(self) -> None:
        """Give the decoder's memory back. May be called twice."""
        self._input.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What comes before the pictures

    def _look_ahead(self) -> None:
        """Read the first packets, which say how far apart pictures are."""
        size = 0
        while len(self._ahead) < _AHEAD_PACKETS and size < _AHEAD_BYTES:
            packet = next(self._demuxed, None)
            if packet is None:
                return
            if packet.has_sidedata("encryption_info") or "enc_key_id" in self._stream.metadata:
                raise NotAVideo("the video is encrypted, and the service has no keys; upload it without DRM", code="encrypted")
            self._ahead.append(packet)
            size += packet.size

    def _stamps_s(self) -> list[float]:
        base, entries = self._stream.time_base, self._stream.index_entries
        if not base:
            return []
        if self.container is Container.MP4 and self._stream.frames > 1 and len(entries) == self._stream.frames:
            first, last = entries[0].timestamp, entries[len(entries) - 1].timestamp
            step = (last - first) / (len(entries) - 1)
            return [float((first + step * at) * base) for at in range(len(entries))] if len(entries) < _MOST_ENTRIES else []
        stamps: list[int] = []
        decoded_at: int | None = None
        for packet in self._ahead:
            if decoded_at is not None and packet.dts is not None and packet.dts < decoded_at:
                break  # the clock is set back: files were put together
            decoded_at = packet.dts if packet.dts is not None else decoded_at
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None and not packet.is_discard:
                stamps.append(stamp)
        return [float(stamp * base) for stamp in stamps]

    def _is_rising(self) -> bool:
        """Whether the stamps of the first packets only rise, as they do not where pictures are shown in another order."""
        stamps = [packet.pts for packet in self._ahead]
        return all(a is not None and b is not None and a < b for a, b in pairwise(stamps))

    def _claimed_fps(self) -> float | None:
        rate = self._stream.guessed_rate if self.container.is_raw else self._stream.average_rate
        return float(rate) if rate else None

    def _count(self) -> int | None:
        """How many frames the container announces, without those that its edit list leaves out."""
        count, entries = self._stream.frames, self._stream.index_entries
        if self.container is Container.AVI and 0 < len(entries) < count and entries[len(entries) - 1].timestamp + 1 >= count:
            return len(entries)  # those in between are empty: the picture before them stays
        if 0 < count < _MAX_FRAMES:
            left_out = 0
            if self.container is Container.MP4 and len(entries) <= min(count, _MOST_ENTRIES):
                left_out = sum(entry.is_discard for entry in entries)
            return count - left_out
        seconds = 0.0
        if self._stream.duration and self._stream.time_base:
            seconds = float(self._stream.duration * self._stream.time_base)
        elif self._input.duration:
            seconds = self._input.duration / av.time_base
        announced = round(seconds * self.fps)
        return announced if 0 < announced < _MAX_FRAMES and not self.container.is_raw else None

    # From packets to pictures

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        while self._ahead:
            yield self._ahead.popleft()
        yield from self._demuxed

    def _demux(self) -> Iterator[Packet[VideoStream]]:
        """The stream's packets; what cannot be read is passed over."""
        for _ in range(_MAX_ERRORS):
            try:
                for packet in self._input.demux(self._stream):
                    if packet.size:  # an empty one would end the decoder's work
                        yield packet
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                _reraise_memory(error)

    def _decoded(self) -> Iterator[VideoFrame]:
        """The pictures that can be decoded."""
        codec, errors = self._stream.codec_context, 0
        for packet in self._packets():
            if self._order is not None:
                self._order.sent(packet.pts)
            try:
                frames = codec.decode(packet)
            except av.error.FFmpegError as error:
                _reraise_memory(error)
                errors += 1
                if errors > _MAX_ERRORS:
                    return
                continue
            errors = 0 if frames else errors
            yield from map(self._stamped, frames)
        try:
            yield from map(self._stamped, codec.decode(None))
        except av.error.FFmpegError as error:
            _reraise_memory(error)

    def _stamped(self, frame: VideoFrame) -> VideoFrame:
        """The picture with the stamp of its place in the order shown."""
        if self._order is not None:
            frame.pts = self._order.shown(frame.pts, frame.pict_type == PictureType.B)
        return frame

    def _shown(self) -> Iterator[VideoFrame]:
        """The pictures in full: those that are made of two fields are put together anew.

        Once there was one of these, all go through the filter, which lets the others pass, so that none overtakes another.
        """
        deinterlacer: _Deinterlacer | None = None
        for frame in self._decoded():
            if deinterlacer is not None and not deinterlacer.takes(frame):
                yield from deinterlacer.push(None)
                deinterlacer = None
            if deinterlacer is None and frame.interlaced_frame:
                deinterlacer = _Deinterlacer.of(frame, self._stream.time_base)
            if deinterlacer is None:
                yield frame
            else:
                yield from deinterlacer.push(frame)
        if deinterlacer is not None:
            yield from deinterlacer.push(None)


class _Deinterlacer:
    """Makes whole pictures of interlaced ones, one for each, and lets others pass."""

    def __init__(self, frame: VideoFrame, time_base: Fraction | None) -> None:
        self._format = (frame.width, frame.height, frame.format.name)
        self._time_base = time_base
        graph = self._graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)
        graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")).configure()

    @classmethod
    def of(cls, frame: VideoFrame, time_base: Fraction | None) -> Self | None:
        """One for pictures like `frame`; None where they are too small for it."""
        try:
            return cls(frame, time_base)
        except av.error.FFmpegError as error:
            _reraise_memory(error)
            return None

    def takes(self, frame: VideoFrame) -> bool:
        """Whether it is made for pictures of this size and format."""
        return (frame.width, frame.height, frame.format.name) == self._format

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Give it the next picture, None at the end; the ones that are finished come out."""
        try:
            self._graph.vpush(frame)
            while True:
                yield self._graph.vpull()
        except av.error.FFmpegError as error:  # it wants more, it is at its end, or it cannot take this picture
            _reraise_memory(error)


def quiet_decoder() -> None:
    """Let FFmpeg print nothing but errors, at once, to standard error."""
    av.logging.set_level(av.logging.ERROR)
    av.logging.restore_default_callback()


def _largest(streams: list[VideoStream]) -> VideoStream:
    """The video stream with the largest pictures. Cover art is none."""
    videos = [stream for stream in streams if not stream.disposition & _NO_PICTURES]
    if not videos:
        if streams:
            raise NotAVideo("the file holds no video, only a cover picture")
        raise _no_frames()
    with_decoder = [stream for stream in videos if stream.codec_context is not None]
    if not with_decoder:
        check_codec("unknown")
    largest = max(with_decoder, key=lambda stream: stream.codec_context.width * stream.codec_context.height)
    check_codec(largest.codec_context.name)
    return largest


def _turn(frame: VideoFrame) -> Turn | None:
    """How the picture says that it lies, None where it says nothing."""
    if not frame.rotation and not frame.side_data:
        return None
    try:
        return turn_of(bytes(cast(Any, frame.side_data)[SideDataType.DISPLAYMATRIX]))
    except (KeyError, ValueError):  # none, or a kind of data that PyAV does not know
        return None


def _no_frames() -> NotAVideo:
    return NotAVideo("the file holds no video that can be decoded", code="no_frames")


def _reraise_memory(error: av.error.FFmpegError) -> None:
    """Raise MemoryError where that is what FFmpeg says."""
    if isinstance(error, MemoryError):
        raise MemoryError from error
