"""Image features: what a model's image encoder says of a frame, kept within a byte budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Mapping
from concurrent.futures import Executor, Future
from typing import Protocol

import torch
from torch import Tensor

from sam_service.telemetry import Telemetry

Entry = tuple[str, int, int]
"""Whose features: session, frame, side of the model's input."""

Features = Mapping[str, Tensor]
"""Image features of one frame, shared by all objects: tensors under names that only the model's family knows."""


def nbytes(features: Features) -> int:
    """Bytes held by features."""
    return sum(tensor.numel() * tensor.element_size() for tensor in features.values())


class SecondTier(Protocol):
    """Where features go that memory has no room for (`feature_files.py`)."""

    def holds(self, entry: Entry) -> bool: ...
    def save(self, entry: Entry, features: Features) -> None: ...
    def load(self, entry: Entry, device: torch.device) -> Features | None: ...
    def prefetch(self, entry: Entry, pool: Executor) -> Future[Features] | None: ...
    def forget(self, key: str, frames: Container[int] | None = None) -> None: ...


class FeatureCache:
    """Features in memory, least recently used ones moved to `overflow` beyond `max_bytes`, or dropped where there is none.

    Filled and emptied by the device's owner; other threads may ask what it holds, and read ahead.
    """

    def __init__(self, max_bytes: int, overflow: SecondTier | None = None, telemetry: Telemetry | None = None) -> None:
        self._requests = None if telemetry is None else telemetry.feature_cache_requests
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._entries: OrderedDict[Entry, Features] = OrderedDict()
        self.nbytes = 0
        """Bytes held in memory."""

    def get(self, entry: Entry, device: torch.device) -> Features | None:
        """The features of an entry, which are then the last ones used; from the second tier they come back to `device`."""
        features = self._entries.get(entry)
        if features is not None:
            self._entries.move_to_end(entry)
        else:
            features = None if self._overflow is None else self._overflow.load(entry, device)
            if features is not None:
                self.put(entry, features)
        if self._requests is not None:
            self._requests.labels("miss" if features is None else "hit").inc()
        return features

    def put(self, entry: Entry, features: Features) -> None:
        """Keep features; the newest stay whatever their size."""
        self._entries[entry] = features
        self.nbytes += nbytes(features)
        self._shrink()

    def limit(self, max_bytes: int) -> None:
        """Hold at most so many bytes in memory from now on."""
        self._max_bytes = max_bytes
        self._shrink()

    def _shrink(self) -> None:
        while self.nbytes > self._max_bytes and len(self._entries) > 1:
            oldest, dropped = self._entries.popitem(last=False)
            self.nbytes -= nbytes(dropped)
            if self._overflow is not None:
                self._overflow.save(oldest, dropped)

    def holds(self, entry: Entry) -> bool:
        """Whether features are here, so that the frame need not be read."""
        return entry in self._entries or (self._overflow is not None and self._overflow.holds(entry))

    def prefetch(self, entry: Entry, pool: Executor) -> Future[Features] | None:
        """Read an entry of the second tier ahead, on `pool`; `get` takes what was read. None where nothing is to be read."""
        return None if self._overflow is None or entry in self._entries else self._overflow.prefetch(entry, pool)

    def forget(self, key: str, frames: Container[int] | None = None) -> None:
        """Drop all of a session, or what there is of some of its frames."""
        for entry in [entry for entry in self._entries if entry[0] == key and (frames is None or entry[1] in frames)]:
            self.nbytes -= nbytes(self._entries.pop(entry))
        if self._overflow is not None:
            self._overflow.forget(key, frames)
