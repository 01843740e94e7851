"""The memory bank: bounded in memory, complete on disk, whole after a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from sam_service.core.memory.bank import WINDOW, FrameMemory, Kind, MemoryBank
from sam_service.core.memory.generations import KeptStep
from sam_service.core.memory.spill import DiskSpill
from sam_service.errors import EngineError, StorageFull


def memory(value: float, reverse: bool | None = False) -> FrameMemory:
    return FrameMemory(state={"map": torch.full((4, 64), value, dtype=torch.bfloat16), "pointer": torch.full((8,), value)},
                       logits=torch.full((4, 4), value), object_score=value, iou=0.5, reverse=reverse)


@pytest.mark.parametrize(("text", "kind"), [("Os { code: 28, message: No space left on device }", StorageFull),
                                            ("Os { code: 13, message: Permission denied }", EngineError)])
def test_a_full_disk_is_told_from_another_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str,
                                                kind: type[Exception]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SafetensorError(f"Error while serializing: {text}")
    monkeypatch.setattr("sam_service.core.memory.spill.save_file", fail)
    with pytest.raises(kind) as caught:
        DiskSpill(tmp_path, 1 << 30).save(1, Kind.TRACKED, 0, memory(1))
    assert type(caught.value) is kind


def test_only_a_window_stays_in_memory_and_the_rest_is_read_back(tmp_path: Path) -> None:
    bank = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    tracked = bank.object(1)
    for frame in range(100):
        tracked.add_tracked(frame, memory(frame))
    assert len(tracked._recent) == WINDOW
    read = tracked.tracked(3)
    assert read is not None
    assert read.object_score == 3
    assert read.state["map"].dtype == torch.bfloat16


def test_without_a_spill_old_frames_are_forgotten() -> None:
    tracked = MemoryBank("a").object(1)
    for frame in range(WINDOW + 5):
        tracked.add_tracked(frame, memory(frame))
    assert tracked.tracked(0) is None
    assert tracked.tracked(WINDOW) is not None


def test_beyond_the_budget_tracked_frames_live_in_the_window_and_prompted_ones_are_kept(tmp_path: Path) -> None:
    bank = MemoryBank("a", DiskSpill(tmp_path, 0))
    tracked = bank.object(1)
    tracked.stage(0, memory(0), conditioning=True)
    bank.commit()
    for frame in range(1, WINDOW + 5):
        tracked.add_tracked(frame, memory(frame))
    assert tracked.tracked(1) is None
    assert DiskSpill(tmp_path, 0).load(1, Kind.CONDITIONING, 0).object_score == 0


def test_a_conditioning_frame_replaces_the_tracked_one_and_goes_back_when_cleared() -> None:
    bank = MemoryBank("a")
    tracked = bank.object(1)
    tracked.add_tracked(5, memory(1))
    tracked.stage(5, memory(2), conditioning=True)
    bank.commit()
    assert tracked.tracked(5) is None
    assert tracked.conditioning[5].object_score == 2
    tracked.clear_prompt(5)
    assert not tracked.conditioning
    found = tracked.tracked(5)
    assert found is not None
    assert found.object_score == 2


@pytest.mark.parametrize("reverse", [False, True])
def test_a_restart_brings_everything_back(tmp_path: Path, reverse: bool) -> None:
    bank = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    for object_id in (1, 7):
        bank.object(object_id).stage(0, memory(object_id, None), conditioning=True)
        bank.commit()
        bank.object(object_id).mark_passed(0, reverse=reverse)
        bank.object(object_id).add_tracked(3, memory(3, reverse))
        bank.object(object_id).stage(4, memory(4, None), conditioning=True)
    (tmp_path / "1" / "half-written.tmp").write_bytes(b"x")
    again = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    again.restore()
    assert list(again.objects) == [1, 7]
    restored = again.objects[7]
    assert restored.conditioning[0].object_score == 7
    assert restored.directions == {0: reverse, 3: reverse}
    latest = restored.latest(4)
    assert latest is not None
    assert latest.object_score == 4
    again.remove(7)
    assert not (tmp_path / "7").exists()


def test_prompted_frames_come_back_in_the_order_in_which_they_were_prompted(tmp_path: Path) -> None:
    bank = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    prompted = bank.object(1)
    for sequence, frame in enumerate((8, 2, 5, 8), start=1):
        prompted.stage(frame, replace(memory(sequence, None), sequence=sequence), conditioning=True)
        if frame == 2:
            bank.commit()
    bank.commit()
    assert list(prompted.conditioning) == [8, 2, 5]
    again = MemoryBank("a", DiskSpill(tmp_path, 1 << 30, steps=[KeptStep(step, frozenset({1})) for step in (1, 2, 3, 4)]))
    again.restore()
    assert list(again.objects[1].conditioning) == [8, 2, 5]


def test_a_cleared_prompt_is_forgotten_after_a_restart_too(tmp_path: Path) -> None:
    bank = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    for frame in (0, 3):
        bank.object(1).stage(frame, memory(1, None), conditioning=True)
    bank.commit()
    bank.object(1).mark_passed(3, reverse=False)
    bank.object(1).clear_prompt(3)
    again = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    again.restore()
    assert again.objects[1].directions == bank.object(1).directions == {}
