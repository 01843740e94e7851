"""Decoding processes are started here: with nothing of the service's but a socket, and one of them ahead of need.

Each is a fresh interpreter and no fork: nothing of the service's memory is in it, its addresses are its own, and it works
where forking does not (Metal, many threads).
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import sam_service
from sam_service.video.wire import Channel

_log = logging.getLogger(__name__)
_PASSED_ON = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
                "MALLOC_TOP_PAD_": str(16 << 20)}
"""For glibc: the memory of a picture is used again for the next, which saves a third of the time of converting it."""

_EXIT_TIMEOUT_S = 5.0
_MAX_MESSAGES = 8192


class Started:
    """A decoding process that waits for its file, and the ends of what leads to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._messages, messages = os.pipe()
        os.set_blocking(self._messages, False)
        os.set_blocking(messages, False)  # a decoder that talks more than anybody reads must not wait for that
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sam_service.video.child", str(theirs.fileno())],
                env=environment(), cwd="/", pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL, stdout=messages, stderr=messages)
        except BaseException:
            ours.close()
            os.close(self._messages)
            raise
        finally:
            theirs.close()
            os.close(messages)
        self.socket = ours
        self.channel = Channel(ours)

    def wait(self) -> int | None:
        """The exit status of a process that closed its socket; None if it had to be killed for it."""
        try:
            return self.process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def close(self) -> str:
        """End the process, free what leads to it and return the first of what it printed."""
        self.process.kill()
        self.process.wait()
        self.channel.close()
        said = b""
        if self._messages >= 0:
            with contextlib.suppress(BlockingIOError):
                said = os.read(self._messages, _MAX_MESSAGES)
            os.close(self._messages)
            self._messages = -1
        return said.decode(errors="replace")


class Spares:
    """Keeps one process started. They are all started by one thread that lives as long as the service: on Linux a
    process asks to be killed when the thread that started it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._starter: ThreadPoolExecutor | None = None
        self._spare: Future[Started] | None = None

    def take(self) -> Started:
        """A process that no one else has. Raises OSError where none can be started."""
        while True:
            with self._lock:
                spare, self._spare = self._spare or self._start(), None
            started = spare.result()
            if started.process.poll() is None:
                return started
            started.close()

    def refill(self) -> None:
        """Start the next one, without waiting for it."""
        with self._lock:
            if self._spare is None:
                self._spare = self._start()

    def close(self) -> None:
        """End the one that waits."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            with contextlib.suppress(OSError):
                spare.result().close()

    def _start(self) -> Future[Started]:
        if self._starter is None:
            self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decoder-starter")
            atexit.register(self.close)
        return self._starter.submit(Started)


spares = Spares()
"""Of this process. Nothing is started before the first `take` or `refill`."""


def warm_up() -> None:
    """Start the first decoding process, without waiting for it, and say in the log which decoder it has."""
    _log.info("videos are decoded by PyAV %s, in processes of their own", decoder_version() or "of unknown version")
    spares.refill()


def decoder_version() -> str | None:
    """The version of PyAV, whose wheel brings FFmpeg; it is not imported for that. None where it is not installed."""
    try:
        return version("av")
    except PackageNotFoundError:
        return None


def environment() -> dict[str, str]:
    """What a process that decodes or encodes knows of the service's environment: no keys, no folders."""
    package = Path(sam_service.__file__).parent.parent
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**passed_on, **_KEPT_MEMORY, "PYTHONPATH": str(package),
            "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
