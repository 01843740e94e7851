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
        while True:
            job = self._queue.get()
            if job.run is None:
                return
            if job.future.set_running_or_notify_cancel():
                self._busy_since = time.monotonic()
                _run(job)
                self._busy_since = None


def _run(job: _Job) -> None:
    assert job.run is not None
    try:
        job.future.set_result(job.run())
    except BaseException as error:  # the thread must outlive any failure of a step; the caller gets it
        job.future.set_exception(error)
