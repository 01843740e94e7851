"""Threads for blocking work, a pool for each kind, so that slow work of one kind holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


class Pool:
    """The threads of one kind of work. Belongs to one event loop."""

    def __init__(self, name: str, threads: int) -> None:
        self.executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work off the event loop, once a thread of the pool is free; log lines keep the caller's ids."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, copy_context().run, work)


class Pools:
    """All threads of a service's sessions.

    opening: videos are opened, at most 4 at one time, each for as long as its decoder takes. steps: frames are read for the
    network, and its logits become masks. rendering: stored masks and frames become what clients asked for. store: one thread
    that writes to the database, in the order of the calls. files: folders are deleted and extractions stopped. waiting:
    clients wait for frames. pictures: pictures of live sessions are decoded.
    """

    def __init__(self) -> None:
        self.opening = Pool("opening", 4)
        self.steps = Pool("frames", 4)
        self.rendering = Pool("rendering", 4)
        self.store = Pool("store", 1)
        self.files = Pool("files", 2)
        self.waiting = Pool("waiting", 64)
        self.pictures = Pool("pictures", 8)

    def close(self) -> None:
        """Finish what is under way, except for opening videos and waiting for frames, which may take long."""
        for pool in (self.steps, self.rendering, self.store, self.files):
            pool.executor.shutdown()
        for pool in (self.opening, self.waiting, self.pictures):
            pool.executor.shutdown(wait=False, cancel_futures=True)
