"""One step of the predictor, on the embedded model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sam_service.core.build import build_predictor
from sam_service.core.frames import ClipFrame
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.prompts import MaskPrompt, PointPrompt
from sam_service.errors import InvalidPrompt

from tests.networks import small_sam

SIDE = 128


def prompt(x: float, y: float, label: int, sequence: int) -> PointPrompt:
    return PointPrompt(np.array([[x, y]], np.float32), np.array([label], np.int32), sequence=sequence)


def test_a_box_on_a_tracked_frame_says_anew_where_the_object_is() -> None:
    picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
    cv2.circle(picture, (32, 40), 16, (220, 160, 50), -1)
    cv2.circle(picture, (96, 80), 16, (60, 160, 220), -1)
    engine = build_predictor(image_size=SIDE)
    bank = MemoryBank("a")
    frames = [ClipFrame(index, (SIDE, SIDE), lambda _: picture) for index in range(2)]
    engine.step(bank, frames[0], prompts={1: prompt(32, 40, 1, 1)}, num_frames=2)
    [tracked] = engine.step(bank, frames[1], track=[1], num_frames=2)
    box = PointPrompt(np.array([[78, 62], [114, 98]], np.float32), np.array([2, 3], np.int32), boxed=True, sequence=2)
    [boxed] = engine.step(bank, frames[1], prompts={1: box}, num_frames=2)
    assert (tracked.logits > 0)[10, 8] and not (tracked.logits > 0)[20, 24]
    assert (boxed.logits > 0)[20, 24] and not (boxed.logits > 0)[10, 8]


def test_a_small_mask_is_tracked_from_the_cells_that_it_fills_most_or_refused_with_the_reason() -> None:
    """This network of SAM 2's kind has 32 x 32 cells: 16 pixels of a frame in 1080p fill a small part of one, and a
    pixel of a panorama nothing that can be told from rounding."""
    engine, picture = small_sam(), np.zeros((SIDE, SIDE, 3), np.uint8)
    frame = ClipFrame(0, (1080, 1920), lambda _: picture)
    mask = np.zeros((1080, 1920), np.bool_)
    mask[500:516, 900:916] = True
    [answer] = engine.step(MemoryBank("small"), frame, prompts={1: MaskPrompt(mask)}, num_frames=1)
    rows, columns = np.nonzero(answer.logits > 0)
    assert set(rows.tolist()) <= {14, 15} and set(columns.tolist()) <= {14, 15}
    assert len(rows) >= 1
    panorama = ClipFrame(0, (1200, 16000), lambda _: picture)
    mask = np.zeros((1200, 16000), np.bool_)
    mask[510, 9100] = True
    with pytest.raises(InvalidPrompt, match="too small to be tracked: of the 32 x 32 cells.*larger image_size") as refused:
        engine.step(MemoryBank("dot"), panorama, prompts={1: MaskPrompt(mask)}, num_frames=1)
    assert refused.value.field == "mask"
