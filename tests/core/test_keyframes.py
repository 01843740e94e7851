"""The network on every n-th frame: optical flow between, the same after a restart, exact where n is 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sam_service.core.build import build_predictor
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.spill import DiskSpill
from sam_service.core.predictor import VideoPredictor
from sam_service.core.prompts import PointPrompt

from tests.core.models.sam.test_sparse_memory import SIDE, frame

CLICK = PointPrompt(np.array([[44, 60]], np.float32), np.ones(1, np.int32))
FRAMES = 14
Logits = dict[int, NDArray[np.float32]]


def predictor(every: int) -> VideoPredictor:
    return build_predictor(image_size=SIDE, track_every=every)


def track(engine: VideoPredictor, bank: MemoryBank, frames: range, *, reverse: bool = False) -> Logits:
    return {index: engine.step(bank, frame(index), track=[1], reverse=reverse, num_frames=FRAMES)[0].logits
            for index in frames}


def click(engine: VideoPredictor, bank: MemoryBank, index: int) -> None:
    point = PointPrompt(CLICK.points + np.array([[3 * index, 0]], np.float32), CLICK.labels)
    engine.step(bank, frame(index), prompts={1: point}, num_frames=FRAMES)


def iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(((one > 0) & (other > 0)).sum() / max(1, ((one > 0) | (other > 0)).sum()))


def ran_on(bank: MemoryBank, frames: range) -> list[int]:
    """The frames that left a memory map."""
    entries = {index: bank.objects[1].tracked(index) for index in frames}
    return [index for index, entry in entries.items() if entry is not None and not entry.interpolated]


def test_the_network_runs_on_every_third_frame_and_masks_follow_the_object() -> None:
    engine, bank = predictor(3), MemoryBank("a")
    click(engine, bank, 1)
    found = track(engine, bank, range(1, FRAMES))
    assert ran_on(bank, range(FRAMES)) == [3, 6, 9, 12]
    exact_bank = MemoryBank("b")
    exact_engine = predictor(1)
    click(exact_engine, exact_bank, 1)
    exact = track(exact_engine, exact_bank, range(1, FRAMES))
    assert (exact[9] > 0).sum() > 50
    assert min(iou(found[index], exact[index]) for index in exact) > 0.85


def test_backward_and_from_a_prompt_between() -> None:
    engine, bank = predictor(4), MemoryBank("a")
    click(engine, bank, 10)
    track(engine, bank, range(10, -1, -1), reverse=True)
    assert ran_on(bank, range(FRAMES)) == [0, 4, 8]
    click(engine, bank, 6)
    found = track(engine, bank, range(6, FRAMES))
    assert 6 in bank.objects[1].conditioning
    assert all((logits > 0).sum() > 50 for logits in found.values())


def test_an_object_that_the_neighbour_does_not_know_gets_the_network() -> None:
    engine, bank = predictor(4), MemoryBank("a")
    click(engine, bank, 0)
    track(engine, bank, range(6, 8))
    assert ran_on(bank, range(FRAMES)) == [6]


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    undisturbed_bank, engine = MemoryBank("a"), predictor(4)
    click(engine, undisturbed_bank, 0)
    undisturbed = track(engine, undisturbed_bank, range(1, FRAMES))
    bank = MemoryBank("b", DiskSpill(tmp_path, 1 << 30))
    click(engine, bank, 0)
    before = track(engine, bank, range(1, 7))
    again = MemoryBank("c", DiskSpill(tmp_path, 1 << 30))
    again.restore()
    after = track(predictor(4), again, range(7, FRAMES))
    for index, logits in (before | after).items():
        assert np.array_equal(logits, undisturbed[index])
