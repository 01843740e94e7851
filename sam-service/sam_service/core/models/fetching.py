"""Weights that are fetched while another model answers: progress, and further tries where the hub does not answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from huggingface_hub.utils.tqdm import tqdm

from sam_service.core.models.family import Checkpoint
from sam_service.core.models.hub import fetch, find_cached
from sam_service.core.models.sizes import ModelSize
from sam_service.errors import ServiceError

logger = logging.getLogger(__name__)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
LOG_STEP = 0.1


@dataclass(frozen=True, slots=True)
class FetchState:
    """How far it is. done_bytes, total_bytes: of the weights; None as long as the hub has told no size. error: why the last try
    failed; the next one is in `retry_in_s` seconds. A state of `loading`: the weights are here, and the network is built."""

    size: str
    label: str
    state: str
    done_bytes: int
    total_bytes: int | None
    error: str | None = None
    retry_in_s: float | None = None


class Stopped(Exception):
    """The service ends."""


class Fetching:
    """Fetches the weights of a size on a thread of its own, until they are here. done: called there, once."""

    def __init__(self, size: ModelSize, checkpoint: Checkpoint, done: Callable[[], object]) -> None:
        self._size, self._checkpoint, self._done = size, checkpoint, done
        self._bytes, self._logged = 0, 0.0
        self._bar: Any = None
        self._state, self._error, self._retry_at = "fetching", "", 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fetching", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End it within the piece that is on its way; what is incomplete is gone on with at the next start."""
        self._ended.set()

    def fail(self, why: str) -> None:
        """Note that what was fetched cannot be used. Nothing more is tried."""
        self._state, self._error = "failed", why

    @property
    def state(self) -> FetchState:
        """How far it is. Any thread may ask."""
        total = getattr(self._bar, "total", None)
        wait = max(0.0, self._retry_at - time.monotonic()) if self._state == "waiting" else None
        return FetchState(self._size.name, self._size.label, self._state, self._bytes, int(total) if total else None,
                          self._error or None, None if wait is None else round(wait, 1))

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._ended.is_set():
            self._state, self._bytes, self._logged = "fetching", 0, 0.0
            try:
                assert self._size.repo is not None
                fetch(self._size.repo, self._checkpoint.revision or self._size.revision, cache_dir=self._checkpoint.cache_dir,
                      bar=self._bar_class())
            except Stopped:
                return
            except ServiceError as error:
                self._error, self._retry_at = error.message, time.monotonic() + pause
                self._state = "waiting"
                logger.warning("the weights of %s could not be fetched, next try in %.0f s: %s", self._size.name, pause,
                               error.message)
                self._ended.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                self._state, self._error = "loading", ""
                self._done()
                return

    def _count(self, bar: Any, n: float) -> None:
        if self._ended.is_set():
            raise Stopped
        self._bar, self._bytes = bar, self._bytes + int(n)
        share = self._bytes / bar.total if bar.total else 0.0
        if share >= self._logged + LOG_STEP:
            self._logged = share
            logger.info("%s: %.0f of %.0f MB fetched", self._size.name, self._bytes / 1e6, bar.total / 1e6)

    def _bar_class(self) -> type[Any]:
        """A progress bar for the hub's client that shows nothing and counts bytes here."""
        count = self._count

        class Bar(tqdm):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                self._counts = options.get("unit") == "B" and not str(options.get("name", "")).endswith(".transfer")
                super().__init__(*arguments, **options | {"disable": True})  # type: ignore[no-untyped-call]

            def update(self, n: float | None = 1) -> bool | None:
                if self._counts:
                    count(self, n or 0)
                return None

        return Bar


def must_fetch(size: ModelSize, checkpoint: Checkpoint) -> bool:
    """Whether the weights are the size's usual ones, not on this machine, and may be asked of the hub."""
    if size.embedded or checkpoint.place is not None or checkpoint.offline or size.repo is None:
        return False
    return find_cached(size.repo, checkpoint.revision or size.revision, checkpoint.cache_dir) is None
