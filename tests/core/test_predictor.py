"""One step of the predictor, on the embedded model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sam_service.core.device import choose_device
from sam_service.core.features import Frame
from sam_service.core.memory_bank import MemoryBank
from sam_service.core.prompts import PointPrompt
from sam_service.core.sam2_video_predictor import Sam2VideoPredictor
from sam_service.core.spill import DiskSpill
from sam_service.core.weights import load_model

SIDE = 128


def prompt(x: float, y: float, label: int, sequence: int) -> PointPrompt:
    return PointPrompt(np.array([[x, y]], np.float32), np.array([label], np.int32), sequence=sequence)


def test_a_prompt_of_the_log_is_answered_once(tmp_path: Path) -> None:
    """A correction that a crash cut off after it was answered must not correct its own answer."""
    picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
    cv2.circle(picture, (60, 60), 25, (220, 160, 50), -1)
    cv2.circle(picture, (90, 70), 15, (60, 160, 220), -1)
    frame = Frame(0, SIDE, SIDE, lambda: picture)
    engine = Sam2VideoPredictor(load_model("nano", image_size=SIDE).model, choose_device("cpu"), hints=False)

    def ask(bank: MemoryBank, asked: PointPrompt) -> NDArray[np.float32]:
        [output] = engine.step(bank, frame, prompts={1: asked}, num_frames=1)
        return output.logits

    first = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    ask(first, prompt(60, 60, 1, 1))
    corrected = ask(first, prompt(90, 70, 1, 2))
    second = MemoryBank("b", DiskSpill(tmp_path, 1 << 30))
    second.restore()
    assert np.array_equal(ask(second, prompt(90, 70, 1, 2)), corrected)
    assert not np.array_equal(ask(second, replace(prompt(90, 70, 1, 2), sequence=3)), corrected)


def test_a_box_on_a_tracked_frame_says_anew_where_the_object_is() -> None:
    picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
    cv2.circle(picture, (32, 40), 16, (220, 160, 50), -1)
    cv2.circle(picture, (96, 80), 16, (60, 160, 220), -1)
    engine = Sam2VideoPredictor(load_model("nano", image_size=SIDE).model, choose_device("cpu"), hints=True)
    bank = MemoryBank("a")
    frames = [Frame(index, SIDE, SIDE, lambda: picture, lambda _: picture) for index in range(2)]
    engine.step(bank, frames[0], prompts={1: prompt(32, 40, 1, 1)}, num_frames=2)
    [tracked] = engine.step(bank, frames[1], track=[1], num_frames=2)
    box = PointPrompt(np.array([[78, 62], [114, 98]], np.float32), np.array([2, 3], np.int32), boxed=True, sequence=2)
    [boxed] = engine.step(bank, frames[1], prompts={1: box}, num_frames=2)
    assert (tracked.logits > 0)[10, 8] and not (tracked.logits > 0)[20, 24]
    assert (boxed.logits > 0)[20, 24] and not (boxed.logits > 0)[10, 8]
