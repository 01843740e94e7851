"""When a process that has done its share starts anew: after so many steps, or when it holds so much memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psutil

from sam_service.core.engine import Engine

logger = logging.getLogger(__name__)
PATIENCE_S = 30.0


class Recycling:
    """Watches the engine's steps and the process's memory. Belongs to the event loop.

    steps, memory_bytes: the marks; None: none. idle: whether nothing is under way. Once a mark is passed it waits for such a
    moment, but not longer than PATIENCE_S: work that is under way then pauses, is stored, and goes on in the next process.
    """

    def __init__(self, engine: Engine, steps: int | None, memory_bytes: int | None, idle: Callable[[], bool], *,
                 clock: Callable[[], float] = time.monotonic,
                 memory: Callable[[], int] = lambda: int(psutil.Process().memory_info().rss)) -> None:
        self._engine, self._steps, self._memory_bytes = engine, steps, memory_bytes
        self._idle, self._clock, self._memory = idle, clock, memory
        self._at_rest: int | None = None
        self._since: float | None = None

    def due(self) -> bool:
        """Whether it is time, now."""
        if not self._engine.ready:
            return False
        reason = self._reason()
        if reason is None:
            self._since = None
            return False
        if self._since is None:
            self._since = self._clock()
        if not self._idle() and self._clock() - self._since < PATIENCE_S:
            return False
        logger.info("the process starts anew: %s", reason)
        return True

    def _reason(self) -> str | None:
        if self._steps is not None and self._engine.steps_done >= self._steps:
            return f"{self._engine.steps_done} steps are done (RECYCLE_STEPS={self._steps})"
        if self._memory_bytes is None:
            return None
        held = self._memory()
        if self._at_rest is None:  # a mark that a fresh process passes would start it anew for ever
            self._at_rest = held
            if held >= self._memory_bytes:
                logger.error("RECYCLE_MEMORY_MB=%d is less than the %d MiB that the service holds at rest, and is ignored",
                             self._memory_bytes >> 20, held >> 20)
        if self._at_rest >= self._memory_bytes or held < self._memory_bytes:
            return None
        return f"it holds {held >> 20} MiB (RECYCLE_MEMORY_MB={self._memory_bytes >> 20})"
