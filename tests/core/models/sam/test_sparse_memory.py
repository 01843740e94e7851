"""Attending to a part of the memory: exact when the part is all, the same after a restart, smaller when it is small.

On random weights: what it costs the masks of a trained network is not tested.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sam_service.core.frames import ClipFrame
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.selection import select
from sam_service.core.memory.spill import DiskSpill
from sam_service.core.models.sam.network import SamNetwork
from sam_service.core.models.sam.sparse_memory import SALIENT
from sam_service.core.predictor import VideoPredictor
from sam_service.core.prompts import PointPrompt

from tests.networks import small_sam

SIDE, FRAMES = 128, 10
TOKENS = (SIDE // 16) ** 2
CLICK = PointPrompt(np.array([[44, 60]], np.float32), np.ones(1, np.int32))
Logits = list[NDArray[np.float32]]


def picture(index: int) -> NDArray[np.uint8]:
    ground = np.random.default_rng(0).integers(0, 90, (16, 16, 3), np.uint8)
    image = cv2.resize(ground, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (44 + 3 * index, 60), 22, (230, 170, 60), -1, cv2.LINE_AA)
    return np.asarray(image, np.uint8)


def frame(index: int) -> ClipFrame:
    return ClipFrame(index, (SIDE, SIDE), picture)


def predictor(share: float) -> VideoPredictor:
    return small_sam(SIDE, memory_share=share)


def track(engine: VideoPredictor, bank: MemoryBank, frames: range) -> Logits:
    if frames.start == 1:
        engine.step(bank, frame(0), prompts={1: CLICK, 2: CLICK}, num_frames=FRAMES)
    return [np.stack([output.logits for output in engine.step(bank, frame(index), track=[1, 2], num_frames=FRAMES)])
            for index in frames]


def test_a_part_that_is_all_changes_nothing() -> None:
    exact = track(predictor(1.0), MemoryBank("a"), range(1, FRAMES))
    whole = track(predictor(0.9999), MemoryBank("b"), range(1, FRAMES))
    for one, other in zip(exact, whole, strict=True):
        assert np.abs(one - other).max() < 1e-4 * np.abs(one).max()


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    undisturbed = track(predictor(0.25), MemoryBank("a"), range(1, FRAMES))
    bank = MemoryBank("b", DiskSpill(tmp_path, 1 << 30))
    before = track(predictor(0.25), bank, range(1, 7))
    again = MemoryBank("c", DiskSpill(tmp_path, 1 << 30))
    again.restore()
    after = track(predictor(0.25), again, range(7, FRAMES))
    for one, other in zip(undisturbed, before + after, strict=True):
        assert np.array_equal(one, other)


def test_old_maps_shrink_and_the_newest_does_not() -> None:
    engine, bank = predictor(0.25), MemoryBank("a")
    track(engine, bank, range(1, 9))
    network = engine.network
    assert isinstance(network, SamNetwork) and network._sparse is not None
    memory = bank.objects[1]
    selection = select(memory, 9, network.layout, reverse=False, num_frames=FRAMES)
    chosen = network._sparse.choose([selection], 4, torch.device("cpu"))
    assert [len(keep[0]) for keep in chosen.keep] == [2 * TOKENS + 5 * TOKENS // 4 + 4] * len(chosen.keep)
    newest, older = memory.tracked(8), memory.tracked(7)
    assert newest is not None and older is not None
    assert SALIENT not in newest.state
    assert older.state[SALIENT].shape == (2, TOKENS // 4)
