"""Looking closer: where, and how the finer answer goes back into the frame's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sam_service.core.build import build_predictor
from sam_service.core.frames import ClipFrame, Crop, Window, upsample
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.spill import DiskSpill
from sam_service.core.models.nano.zoom import cut_out, paste, window_around
from sam_service.core.predictor import ObjectOutput
from sam_service.core.prompts import PointPrompt

SIDE, WIDTH, HEIGHT = 80, 640, 360
CENTRE, RADIUS = (430, 110), 26
Mask = NDArray[np.bool_]


def click(x: float, y: float, label: int = 1) -> PointPrompt:
    return PointPrompt(np.array([[x, y]], np.float32), np.array([label], np.int32))


def disc(side: int, x: float, y: float, radius: float) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:side, :side].astype(np.float32) + 0.5
    return np.asarray(radius - np.hypot(columns - x, rows - y), np.float32)


def test_the_window_holds_object_and_clicks_and_has_the_frames_proportions() -> None:
    window = window_around(disc(SIDE, 53, 24, 4), click(400, 110), WIDTH, HEIGHT)
    assert window is not None
    assert 0 <= window.x0 < 392 and 456 < window.x1 <= WIDTH and 0 <= window.y0 < 90 and 126 < window.y1 <= HEIGHT
    assert (window.x1 - window.x0) / (window.y1 - window.y0) == pytest.approx(WIDTH / HEIGHT, rel=0.05)


def test_nothing_and_large_objects_are_not_looked_at_closer() -> None:
    assert window_around(disc(SIDE, 40, 40, -1), click(320, 180), WIDTH, HEIGHT) is None
    assert window_around(disc(SIDE, 40, 40, 30), click(320, 180), WIDTH, HEIGHT) is None


def test_a_window_at_the_edge_lies_in_the_frame() -> None:
    for x, y in ((0, 0), (79, 79), (0, 79)):
        window = window_around(disc(SIDE, x, y, 3), click(x * 8, y * 4.5), WIDTH, HEIGHT)
        assert window is not None
        assert 0 <= window.x0 < window.x1 <= WIDTH and 0 <= window.y0 < window.y1 <= HEIGHT


def test_what_is_cut_out_and_put_back_is_what_was_there() -> None:
    logits, window = disc(SIDE, 53, 24, 9), Window(280, 40, 600, 220)
    part = cut_out(logits, window, WIDTH, HEIGHT)
    again = paste(logits, Crop(window, part), WIDTH, HEIGHT)
    assert np.abs(again - logits).max() < 0.5
    whole, same = (upsample(logits, crop, WIDTH, HEIGHT, WIDTH, HEIGHT) for crop in (None, Crop(window, part)))
    assert ((whole > 0) != (same > 0)).mean() < 1e-3


def test_prompts_outside_of_the_window_are_left_out_and_a_box_never_is() -> None:
    window = Window(100, 100, 200, 200)
    prompt = PointPrompt(np.array([[90, 90], [210, 190], [150, 150], [50, 150]], np.float32), np.array([2, 3, 1, 0], np.int32))
    mapped = window.map(prompt, 320)
    assert mapped.labels.tolist() == [2, 3, 1]
    assert mapped.points.tolist() == [[-32, -32], [352, 288], [160, 160]]


def scene() -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([60 + 40 * columns / WIDTH, 90 + 40 * rows / HEIGHT, 100 + 0 * rows], -1)
    image[truth()] = (230, 120, 40)
    return (image + np.random.default_rng(0).normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)


def truth() -> Mask:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    star = RADIUS * (0.75 + 0.25 * np.cos(5 * np.arctan2(rows - CENTRE[1], columns - CENTRE[0])))
    return np.asarray(np.hypot(columns - CENTRE[0], rows - CENTRE[1]) < star)


def iou(output: ObjectOutput) -> float:
    mask = upsample(output.logits, output.crop, WIDTH, HEIGHT, WIDTH, HEIGHT) > 0
    return float((mask & truth()).sum() / (mask | truth()).sum())


def test_a_small_object_gets_a_finer_mask_which_outlives_the_process(tmp_path: Path) -> None:
    predictor, image = build_predictor(), scene()
    network = predictor.network
    frame = ClipFrame(0, (WIDTH, HEIGHT), lambda _: image, lambda whole: network.resize(whole, network.image_size))
    bank = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    prompt = PointPrompt(np.array([CENTRE], np.float32), np.ones(1, np.int32), sequence=7)
    [fine] = predictor.step(bank, frame, prompts={1: prompt}, num_frames=2)
    assert fine.crop is not None
    assert iou(fine) > max(0.9, iou(replace(fine, crop=None)) + 0.02)

    again = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    again.restore()
    [remembered] = predictor.step(again, frame, prompts={1: prompt}, num_frames=2)
    assert remembered.crop is not None and remembered.crop.window == fine.crop.window
    assert np.array_equal(remembered.crop.logits, fine.crop.logits)
