"""Image features on disk, for frames that memory has no room for: reading costs a hundredth of encoding them again."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import OrderedDict
from collections.abc import Container
from concurrent.futures import Executor, Future
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sam_service.core.features import Entry, Features, nbytes

logger = logging.getLogger(__name__)


class FeatureFiles:
    """A folder of one process, empty at its start. Features come back as they went, so masks are equal to the bit.

    Where `max_bytes` are used, or the disk has no more than `min_free_bytes` left, the sessions that were used longest ago give
    way. A session never displaces frames of its own: propagations read in order, and the oldest frame is the one that is
    wanted next. A file that cannot be written or read costs time, never an answer.
    """

    def __init__(self, folder: Path, max_bytes: int, *, min_free_bytes: int = 0) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._sessions: OrderedDict[str, dict[Entry, int]] = OrderedDict()
        self._read_ahead: dict[Entry, Future[Features]] = {}
        self.nbytes = 0
        """Bytes on disk."""

    def open(self) -> None:
        """Remove what an earlier process has left."""
        shutil.rmtree(self._folder, ignore_errors=True)

    close = open

    def holds(self, entry: Entry) -> bool:
        """Whether features are here."""
        return entry in self._sessions.get(entry[0], {})

    def save(self, entry: Entry, features: Features) -> None:
        """Keep features, where there is room."""
        size = nbytes(features)
        if self.holds(entry) or not self._make_room(entry[0], size):
            return
        tensors = {name: value.cpu().contiguous() for name, value in features.items()}
        path = self._path(entry)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, path)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                path.unlink()
            logger.warning("the image features of a frame are not kept: %s", error)
            return
        self._sessions.setdefault(entry[0], {})[entry] = size
        self._sessions.move_to_end(entry[0])
        self.nbytes += size

    def load(self, entry: Entry, device: torch.device) -> Features | None:
        """Read features back; None where there are none."""
        ahead = self._read_ahead.pop(entry, None)
        if not self.holds(entry):
            return None
        self._sessions.move_to_end(entry[0])
        try:
            if ahead is not None and ahead.done() and not ahead.cancelled():
                return {name: tensor.to(device) for name, tensor in ahead.result().items()}
            return self._read(entry, device)
        except (OSError, SafetensorError) as error:
            logger.warning("the image features of a frame could not be read and are computed again: %s", error)
            self._drop(entry)
            return None

    def prefetch(self, entry: Entry, pool: Executor) -> Future[Features] | None:
        """Read features ahead, on `pool`; `load` takes what was read. Any thread may ask. The future is to be waited for, and
        not asked for its result."""
        if self.holds(entry) and entry not in self._read_ahead:
            self._read_ahead[entry] = pool.submit(self._read, entry, torch.device("cpu"))
        return self._read_ahead.get(entry)

    def forget(self, key: str, frames: Container[int] | None = None) -> None:
        """Remove all of a session, or what there is of some of its frames."""
        for entry in [entry for entry in list(self._read_ahead) if entry[0] == key and (frames is None or entry[1] in frames)]:
            self._read_ahead.pop(entry, None)
        if frames is not None:
            for entry in [entry for entry in self._sessions.get(key, {}) if entry[1] in frames]:
                self._drop(entry)
            return
        self.nbytes -= sum(self._sessions.pop(key, {}).values())
        shutil.rmtree(self._folder / key, ignore_errors=True)

    def _read(self, entry: Entry, device: torch.device) -> Features:
        """The features in a file, in memory of their own."""
        tensors: Features = load_file(self._path(entry), device=str(device))
        return {name: tensor.clone() for name, tensor in tensors.items()}  # what is only mapped would be read later

    def _make_room(self, key: str, needed: int) -> bool:
        while self.nbytes + needed > self._max_bytes or self._free() - needed < self._min_free_bytes:
            oldest = next((other for other in self._sessions if other != key), None)
            if oldest is None:
                return False
            self.forget(oldest)
        return True

    def _free(self) -> int:
        folder = next(parent for parent in (self._folder, *self._folder.parents) if parent.exists())
        return shutil.disk_usage(folder).free

    def _drop(self, entry: Entry) -> None:
        self.nbytes -= self._sessions[entry[0]].pop(entry)
        with contextlib.suppress(OSError):
            self._path(entry).unlink()

    def _path(self, entry: Entry) -> Path:
        key, frame, side = entry
        return self._folder / key / f"{side}-{frame:07d}.safetensors"
