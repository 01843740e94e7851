"""The service's side of a decoding process: it is handed one file, and its end is understood.

Each file has a process of its own, so that one which breaks the decoder, or takes it over, ends or has that process only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sam_service.errors import CapacityError, EngineError, NotAVideo, ServiceError
from sam_service.video.confine import EXIT_MEMORY
from sam_service.video.containers import Container
from sam_service.video.job import Job
from sam_service.video.launch import Started, spares
from sam_service.video.limits import VideoInfo, VideoLimits, too_large
from sam_service.video.manifest import unpack_error
from sam_service.video.source import container_of, open_source
from sam_service.video.wire import ALIVE, END, ERROR, EXTRACT, FRAME, INFO, OPEN, EncodedFrame, unpack_frame

_log = logging.getLogger(__name__)
T = TypeVar("T")
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP,
                      signal.SIGSYS})
_MAX_ERROR, _PLAIN_WORDS = 4000, re.compile(r"[A-Za-z0-9_.\[\]]{1,60}")
_MAX_LOGGED_LINES, _MAX_LOGGED_LINE = 12, 300


class DecodingProcess:
    """A process that decodes one file. Use it as a context manager, from one thread; `kill` may be called from any.

    `guards` are the limits that are in force. After the last of `frames`, `truncated` and `missing_frames` say what was left
    out, `fps` how many source frames there are a second on average, and `size_changed` whether some had another size than the
    first.
    """

    def __init__(self, path: Path, limits: VideoLimits, *, threads: int = 1, fps: float | None = None) -> None:
        """Args: fps: frames a second of a folder or an archive of pictures, None for the usual; anything else takes none."""
        self._path = path
        self._limits = limits
        self._threads = threads
        self._fps = fps
        self._started: Started | None = None
        self._killed = False
        self._lock = threading.Lock()
        self.truncated = False
        self.missing_frames = 0
        self.fps: float | None = None
        self.size_changed = False
        self.guards: tuple[str, ...] = ()

    def open(self) -> VideoInfo:
        """Hand the file over and return what it is.

        Raises:
            NotFound: the file cannot be opened.
            NotAVideo: no accepted container or codec, no picture that can be decoded, or one that breaks the decoder.
            TooLarge: over a limit.
            CapacityError, EngineError: no fault of the video.
        """
        video = open_source(self._path)
        try:
            container = container_of(video)
            if container is not Container.FOLDER:
                self._limits.check_bytes(os.fstat(video).st_size)
            started = self._start()
            with contextlib.suppress(OSError):  # the process is gone; its exit status says why, below
                started.channel.send_descriptor(video)
                started.channel.send(OPEN, {"limits": asdict(self._limits), "threads": self._threads, "fps": self._fps})
        finally:
            os.close(video)
        _, body = self._receive(INFO)
        spares.refill()
        info, self.guards = self._understood(_info, body)
        _log_guards(self.guards)
        self._limits.check(info)
        return info

    def frames(self, job: Job) -> Iterator[EncodedFrame]:
        """The frames of `job` as they come. After `open`, and raises as that does."""
        assert self._started is not None
        with contextlib.suppress(OSError):  # as above
            self._started.channel.send(EXTRACT, asdict(job))
        stored = job.stored
        while True:
            kind, body = self._receive(FRAME, END)
            if kind == END:
                self.truncated, self.missing_frames, self.fps, self.size_changed = self._understood(_end, body)
                return
            frame = self._understood(functools.partial(unpack_frame, width=job.width, height=job.height, raw=job.raw), body)
            stored += 1
            if job.max_frames is not None and stored > job.max_frames:
                raise self._nonsense()
            yield frame

    def kill(self) -> None:
        """End the process now; a call that waits for it raises."""
        with self._lock:
            self._killed = True
            if self._started is not None:
                self._started.process.kill()

    def close(self) -> None:
        """End the process and free what it holds. May be called twice."""
        self.kill()
        if self._started is not None:
            _log_messages(self._path.name, self._started.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> Started:
        try:
            started = spares.take()
        except OSError as error:
            _log.error("no process to decode a video in could be started: %s", error)
            raise CapacityError("no process to decode the video in could be started", code="no_decoder") from error
        started.socket.settimeout(self._limits.max_silence_s)
        with self._lock:
            self._started = started
            if self._killed:
                started.process.kill()
        return started

    def _receive(self, *expected: bytes) -> tuple[bytes, bytes]:
        """The next message of one of the kinds `expected`; signs of life are passed over. Raises the error that comes."""
        assert self._started is not None
        try:
            kind, body = ALIVE, b""
            while kind == ALIVE:
                kind, body = self._started.channel.receive()
        except TimeoutError:
            raise EngineError("the decoder gave no sign of life for "
                              f"{self._limits.max_silence_s:.0f} s", code="decoder_silent") from None
        except (EOFError, OSError):
            raise self._why_it_ended(self._started.wait()) from None
        except ValueError:
            raise self._nonsense() from None
        if kind == ERROR:
            raise self._understood(_error, body)
        if kind not in expected:
            raise self._nonsense()
        return kind, body

    def _why_it_ended(self, status: int | None) -> ServiceError:
        """What the exit status of a process that did not finish means."""
        if status == EXIT_MEMORY:
            return too_large("decoding the video takes more memory than it may use", "too_much_memory")
        if status == -signal.SIGXCPU:
            seconds = self._limits.max_frame_cpu_s
            return NotAVideo(f"a picture of the video takes more than {seconds} s to decode",
                             code="decoder_stuck")
        if status is not None and -status in _CRASHES:
            return NotAVideo("the video breaks the decoder", code="decoder_crashed")
        if status == -signal.SIGKILL:  # by the kernel when memory runs out, or by an operator
            return CapacityError("the process that decoded the video was killed; there may be too little memory",
                                 code="decoder_killed", retry_after_s=60)
        return EngineError("the video's frames could not be extracted", code="extraction_failed")

    def _understood(self, read: Callable[[bytes], T], body: bytes) -> T:
        """What a message holds."""
        try:
            return read(body)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._nonsense() from None

    def _nonsense(self) -> ServiceError:
        _log.error("the process that decodes %s sends what it never should; it was ended", self._path.name)
        return NotAVideo("the video breaks the decoder", code="decoder_crashed")


def _info(body: bytes) -> tuple[VideoInfo, tuple[str, ...]]:
    document: dict[str, Any] = json.loads(body)
    fields = document["info"]
    info = VideoInfo(**{**fields, "container": Container(fields["container"])})
    if not (info.width > 0 < info.height and 0 < info.fps < math.inf and 0 < info.pixel_aspect < math.inf):
        raise ValueError(fields)
    return info, tuple(str(guard) for guard in document["guards"])


def _end(body: bytes) -> tuple[bool, int, float, bool]:
    document: dict[str, Any] = json.loads(body)
    fps = float(document["fps"])
    if not 0 < fps < math.inf:
        raise ValueError(fps)
    return bool(document["truncated"]), int(document["missing_frames"]), fps, bool(document["size_changed"])


def _error(body: bytes) -> ServiceError:
    """The error that a process sends. Its words are the service's own; the decoder's never leave the log.

    Raises ValueError where its code or field is no plain word, and where it is otherwise none of ours.
    """
    packed = json.loads(body)
    if not isinstance(packed["message"], str) or len(packed["message"]) > _MAX_ERROR:
        raise ValueError("no message")
    if any(packed[name] is not None and not _PLAIN_WORDS.fullmatch(packed[name]) for name in ("code", "field")):
        raise ValueError("no code")
    error = unpack_error(packed)
    if error is None:
        raise ValueError("no error")
    return error


@functools.cache
def _log_guards(guards: tuple[str, ...]) -> None:
    """Say once what decoding processes are held by."""
    _log.info("videos are decoded in processes with limits on %s", ", ".join(guards))


def _log_messages(name: str, said: str) -> None:
    """Put what the decoder said about a file into the log: few lines, nothing but printable characters."""
    for line in said.splitlines()[:_MAX_LOGGED_LINES]:
        _log.info("decoding %s: %s", name, "".join(c for c in line[:_MAX_LOGGED_LINE] if c.isprintable()))
