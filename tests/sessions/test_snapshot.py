"""A snapshot of the stored masks sees nothing that is written after it was taken."""

from __future__ import annotations

from pathlib import Path

from sam_service.sessions.records import MaskRecord, SessionRecord
from sam_service.sessions.store import SqliteStore


def masks(score: float, frames: range) -> list[MaskRecord]:
    return [MaskRecord(frame, 1, 2, 2, "4", score, 1.0, 0.0) for frame in frames]


def test_a_snapshot_stays_as_it_was(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a folder, 100%?" / "sessions.sqlite")
    store.create(SessionRecord("s", 0, 0, 256, "v.mp4", "v.mp4", "nano"))
    store.put_masks("s", masks(0.5, range(6)))
    snapshot = store.snapshot("s")
    reading = snapshot.masks(1, 4)
    assert next(reading).frame_index == 1
    store.put_masks("s", masks(0.9, range(10)))
    assert [(mask.frame_index, mask.score) for mask in reading] == [(2, 0.5), (3, 0.5), (4, 0.5)]
    store.delete("s", expired=False)
    assert len(list(snapshot.masks(0, 9))) == 6
    snapshot.close()
    assert list(store.snapshot("s").masks(0, 9)) == []
    store.close()
