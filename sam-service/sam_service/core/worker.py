"""One thread owns the device. Work comes to it through a bounded queue: clicks first, then propagation frames in turn.

A propagation queues one frame at a time, so that sessions alternate and a click waits for one frame at most.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

from sam_service.errors import NotReady, QueueFull

logger = logging.getLogger(__name__)
T = TypeVar("T")

THREAD_IS_SPOILT = "could not create a primitive"
"""oneDNN has no memory for a layer's code. It remembers that for the thread, and never makes code there again."""


class Priority(IntEnum):
    """What goes first."""

    CLICK = 0
    FRAME = 1
    STOP = 2


@dataclass(order=True, slots=True)
class _Job:
    priority: Priority
    sequence: int
    run: Callable[[], Any] | None = field(compare=False)
    future: Future[Any] = field(compare=False)


class Worker:
    """Runs callables one at a time on a thread of its own, in order of priority, then of arrival."""

    def __init__(self, *, max_queued: int = 64) -> None:
        self._queue: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._sequence = itertools.count()
        self._max_queued = max_queued
        self._stopping = False
        self._lock = threading.Lock()
        self._busy_since: float | None = None
        self._thread = self._new_thread()
        self._spare: _Spare | None = None
        self.restarts = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def revive(self) -> bool:
        """Start another thread where the one that there was has died; what is queued is done by it. Says whether."""
        with self._lock:
            if self._thread.is_alive() or self._thread.ident is None or self._stopping:
                return False
            self._busy_since = None
            self._thread = self._new_thread()
            self._thread.start()
            self.restarts += 1
        return True

    def stop(self, timeout: float | None = None) -> None:
        """Refuse new work, finish what is queued and join the thread."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            if self._spare is not None:
                self._spare.dismiss()
            self._queue.put(_Job(Priority.STOP, next(self._sequence), None, Future()))
        self._thread.join(timeout)

    def submit(self, run: Callable[[], T], priority: Priority = Priority.CLICK, *, bounded: bool = True) -> Future[T]:
        """Queue a callable. Raises QueueFull, unless not `bounded`, and NotReady once the worker is stopping."""
        future: Future[T] = Future()
        with self._lock:
            if self._stopping:
                raise NotReady("the service is stopping")
            if bounded and self._queue.qsize() >= self._max_queued:
                raise QueueFull(f"the device's queue holds its {self._max_queued} steps; try again shortly", retry_after_s=1)
            self._queue.put(_Job(priority, next(self._sequence), run, future))
        return future

    @property
    def queued(self) -> int:
        """Steps waiting."""
        return self._queue.qsize()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def busy_s(self) -> float:
        """Seconds that what runs has taken so far; 0 where nothing runs."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._loop, name="device", daemon=True)

    def _loop(self) -> None:
        spoilt = False
        while True:
            job = self._queue.get()
            if job.run is None:
                return
            if job.future.set_running_or_notify_cancel():
                self._busy_since = time.monotonic()
                error = _run(job)
                self._busy_since = None
                spoilt |= error is not None and THREAD_IS_SPOILT in str(error)
                if error is None and self._spare is None and not self._stopping:
                    self._keep(_Spare(self._loop))  # there was memory for a step, so there is for a thread
            if spoilt and self._hand_over():
                return

    def _keep(self, spare: _Spare) -> None:
        """Have a spare thread, unless the worker was stopped while it started."""
        with self._lock:
            if self._stopping:
                spare.dismiss()
            else:
                self._spare = spare

    def _hand_over(self) -> bool:
        """Let the spare thread go on in place of the one that calls this; says whether there was one."""
        with self._lock:
            if self._spare is None:
                return False
            self._thread, self._spare = self._spare.begin(), None
            self.restarts += 1
        logger.warning("the device's thread had no memory for the code of a layer; another one goes on in its place")
        return True


class _Spare:
    """A thread that is there before it is needed: one that is started when memory is short may never come to life, and
    whoever starts it then waits for ever."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._called = threading.Event()
        self._wanted = False
        self._work = work
        self._thread = threading.Thread(target=self._stand_by, name="device", daemon=True)
        self._thread.start()

    def begin(self) -> threading.Thread:
        """Let the thread work; returns it."""
        self._wanted = True
        self._called.set()
        return self._thread

    def dismiss(self) -> None:
        """Let the thread end."""
        self._called.set()

    def _stand_by(self) -> None:
        self._called.wait()
        if self._wanted:
            self._work()


def _run(job: _Job) -> BaseException | None:
    """Run a step; what it failed with."""
    assert job.run is not None
    try:
        job.future.set_result(job.run())
    except BaseException as error:  # the thread must outlive any failure of a step; the caller gets it
        job.future.set_exception(error)
        return error
    return None
