"""Frames that come one by one leave the memory that a propagation leaves, within a window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sam_service.core.features import FeatureCache
from sam_service.core.frames import ClipFrame
from sam_service.core.memory.bank import FrameMemory, MemoryBank
from sam_service.core.memory.spill import DiskSpill
from sam_service.core.predictor import VideoPredictor
from sam_service.core.prompts import PointPrompt

from tests.networks import small_sam

SIDE, LENGTH, NUM_FRAMES = 128, 14, 16
PIXELS = [np.random.default_rng(index).integers(0, 255, (SIDE, SIDE, 3), np.uint8) for index in range(LENGTH)]
Logits = dict[int, list[NDArray[np.float32]]]
Step = Callable[[int], object]


def click(x: int, y: int, label: int = 1) -> PointPrompt:
    return PointPrompt(np.array([[x, y]], np.float32), np.array([label], np.int32))


def frame(index: int) -> ClipFrame:
    return ClipFrame(index, (SIDE, SIDE), lambda at: PIXELS[at])


def prompts(predictor: VideoPredictor, bank: MemoryBank, index: int) -> None:
    """An object on frame 0, another on frame 4; a correction of the first one on frame 7, where it was tracked, and on 0."""
    for at, number, prompted, prompt in ((0, 1, 0, click(40, 50)), (4, 2, 4, click(90, 80)), (7, 1, 7, click(20, 20, 0)),
                                         (9, 1, 0, click(100, 30, 0))):
        if at == index:
            predictor.step(bank, frame(prompted), prompts={number: prompt}, num_frames=NUM_FRAMES)


def track(predictor: VideoPredictor, bank: MemoryBank, index: int) -> list[NDArray[np.float32]]:
    outputs = predictor.step(bank, frame(index), track=[1, 2], num_frames=NUM_FRAMES)
    return [output.logits for output in outputs]


def test_pushed_frames_have_the_logits_of_a_propagation(tmp_path: Path) -> None:
    predictor = small_sam(SIDE)
    whole, window = MemoryBank("whole"), MemoryBank("window", DiskSpill(tmp_path, 1 << 30))
    for index in range(LENGTH):
        if index == 0:
            prompts(predictor, whole, 0)
            prompts(predictor, window, 0)
        expected = track(predictor, whole, index)  # a propagation passes the prompted frame, too
        if index:
            window.move_window(range(index - 1 - NUM_FRAMES, index))
            assert all((ours == theirs).all() for ours, theirs in zip(track(predictor, window, index), expected, strict=True))
            prompts(predictor, whole, index)
            prompts(predictor, window, index)


def remembered(bank: MemoryBank) -> dict[int, tuple[set[int], set[int], set[int]]]:
    return {number: (set(memory._tracked), set(memory.conditioning), set(memory._staged))
            for number, memory in bank.objects.items()}


def memory(value: float) -> FrameMemory:
    return FrameMemory(torch.full((4, 4), value), value, 0.5, {"map": torch.zeros(4, 4)}, reverse=False)


def test_what_leaves_the_window_is_forgotten_on_disk_too(tmp_path: Path) -> None:
    bank = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    tracked = bank.object(1)
    tracked.stage(2, memory(2), conditioning=True)
    for index in range(3, 12):
        tracked.add_tracked(index, memory(index))
        tracked.mark_passed(index, reverse=False)
    bank.move_window(range(8, 12))
    assert remembered(bank) == {1: ({8, 9, 10, 11}, {2}, set())}
    assert set(tracked.directions) == {2, 8, 9, 10, 11}
    restored = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    restored.restore()
    assert remembered(restored) == remembered(bank)
    assert restored.objects[1].directions == tracked.directions


def test_going_back_forgets_what_came_later(tmp_path: Path) -> None:
    bank = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    tracked = bank.object(1)
    for index in range(6):
        tracked.add_tracked(index, memory(index))
    tracked.stage(1, memory(1), conditioning=True)
    tracked.commit()
    tracked.stage(4, memory(4), conditioning=True)
    tracked.stage(5, memory(5), conditioning=False)
    bank.forget_after(3)
    assert remembered(bank) == {1: ({0, 2, 3}, {1}, set())}
    restored = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    restored.restore()
    assert remembered(restored) == remembered(bank)


def test_features_of_single_frames_are_dropped() -> None:
    cache = FeatureCache(1 << 20)
    for key, index in (("a", 0), ("a", 1), ("b", 0)):
        cache.put((key, index, 64), {"map": torch.zeros(4)})
    cache.forget("a", range(1))
    assert [cache.holds(entry) for entry in (("a", 0, 64), ("a", 1, 64), ("b", 0, 64))] == [False, True, True]
    assert cache.nbytes == 32
