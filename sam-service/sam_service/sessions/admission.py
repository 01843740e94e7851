"""Whether there is room for more, asked before work begins, so that work in progress never runs into the wall."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from sam_service.errors import MemoryFull
from sam_service.failures import RETRY_AFTER_S, disk_full


@dataclass(frozen=True, slots=True)
class Reserve:
    """disk_bytes: what must stay free on the disk; memory_bytes: what the process may hold, None for no limit."""

    disk_bytes: int = 256 << 20
    memory_bytes: int | None = None


class Admission:
    """The doorkeeper of a data folder."""

    def __init__(self, folder: Path, reserve: Reserve) -> None:
        self._folder = folder
        self._reserve = reserve
        self._process = psutil.Process()

    def require_room(self) -> None:
        """Raise StorageFull or MemoryFull where the reserve is touched. Takes some microseconds."""
        if shutil.disk_usage(self._folder).free < self._reserve.disk_bytes:
            raise disk_full()
        limit = self._reserve.memory_bytes
        if limit is not None and self._process.memory_info().rss > limit:
            raise MemoryFull(f"the service holds more than its {limit >> 20} MiB of memory; close sessions or try later",
                             retry_after_s=RETRY_AFTER_S)
