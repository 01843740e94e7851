"""What the nano model is told beside its memory: first guesses, carried masks, marks by appearance."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sam_service.core.flow import FLOW_SIDE, LOGIT_LIMIT, backward_flow, grey, warp_mask
from sam_service.core.frames import cut, resized
from sam_service.core.models.nano.appearance import describe, fit, mark
from sam_service.core.models.nano.proposal import BOX_SCALES, CLICK_RADII, proposals
from sam_service.core.prompts import PointPrompt

from tests.clips import texture
from tests.support import iou

CLICK = [(100, 140, 1)]


def guessed(image: NDArray[np.uint8], clicks: Sequence[tuple[float, float, int]], side: int = 64) -> NDArray[np.float32]:
    """First guesses for x, y and label of clicks, or of a box's corners (labels 2 and 3)."""
    height, width = image.shape[:2]
    prompt = PointPrompt(np.array([c[:2] for c in clicks], np.float32), np.array([c[2] for c in clicks], np.int32))
    return proposals(lambda window: cut(image, window, width, height), image, width, height, prompt, side)


def boxed(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float, int]]:
    return [(x0, y0, 2), (x1, y1, 3)]


def scene(x: int, y: int, side: int = 256) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A bright textured disc on a dark textured ground: RGB (side, side, 3) and where the disc is."""
    image = texture(side, side, seed=1) // 3
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (x, y), 30, 1, -1)
    disc = np.roll(255 - texture(side, side, seed=2) // 3, (y, x), (0, 1))
    return np.where(mask[..., None] > 0, disc, image), mask > 0


def quarter(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A mask (S, S) as logits (S/4, S/4)."""
    small = cv2.resize(mask.astype(np.float32), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return np.asarray((2 * small - 1) * LOGIT_LIMIT, np.float32)


def test_one_of_the_guesses_from_a_click_is_the_object() -> None:
    image, mask = scene(100, 140)
    guesses = guessed(image, CLICK)
    assert guesses.shape == (len(CLICK_RADII), 64, 64)
    assert max(iou(guess > 0, quarter(mask) > 0) for guess in guesses) > 0.85


def test_guesses_from_a_box_lie_in_it() -> None:
    image, mask = scene(100, 140)
    guesses = guessed(image, boxed(70, 110, 130, 170))
    assert guesses.shape == (len(BOX_SCALES), 64, 64)
    assert all(iou(guess > 0, quarter(mask) > 0) > 0.8 for guess in guesses)
    assert not (guesses[:, :26] > 0).any()


def test_guesses_are_the_same_every_time_and_keep_off_a_negative_click() -> None:
    image, _ = scene(100, 140)
    first, second = (guessed(image, [*CLICK, (100, 60, 0)]) for _ in range(2))
    assert np.array_equal(first, second)
    assert (first[:, 35, 25] > 0).all()
    assert not (first[:, 15, 25] > 0).any()


def test_clicks_in_the_corners_and_tiny_boxes_are_answered() -> None:
    image, _ = scene(100, 140)
    for x, y in ((0, 0), (255.9, 255.9), (0, 255.9)):
        assert np.isfinite(guessed(image, [(x, y, 1)])).all()
        assert np.isfinite(guessed(image, boxed(max(0, x - 1), max(0, y - 1), x, y))).all()


def test_only_negative_clicks_give_empty_guesses() -> None:
    image, _ = scene(100, 140)
    assert (guessed(image, [(100, 140, 0)]) < 0).all()


def test_a_small_object_in_a_large_frame_is_guessed_as_well_as_a_large_one() -> None:
    image = resized(texture(240, 135, seed=3) // 3, 1920, 1080)
    mask = np.zeros((1080, 1920), np.uint8)
    cv2.circle(mask, (1500, 300), 24, 1, -1)
    image[mask > 0] = (210, 200, 90)
    guesses = guessed(image, boxed(1476, 276, 1524, 324), side=480)
    wanted = cv2.resize(mask.astype(np.float32), (480, 480), interpolation=cv2.INTER_AREA) > 0.5
    assert all(iou(guess > 0, wanted) > 0.9 for guess in guesses)


def test_a_mask_is_carried_to_where_the_object_went() -> None:
    (before, mask), (now, wanted) = scene(100, 140), scene(108, 134)
    flow = backward_flow(grey(now), grey(before), FLOW_SIDE // 4)
    moved = warp_mask(quarter(mask), flow)
    assert iou(moved > 0, quarter(wanted) > 0) > 0.85 > iou(quarter(mask) > 0, quarter(wanted) > 0)


def test_an_absent_object_is_carried_nowhere() -> None:
    (before, _), (now, _) = scene(100, 140), scene(108, 134)
    flow = backward_flow(grey(now), grey(before), FLOW_SIDE // 4)
    assert (warp_mask(np.full((64, 64), -1024, np.float32), flow) == -LOGIT_LIMIT).all()


def described(image: NDArray[np.uint8]) -> torch.Tensor:
    """What appearance is learnt from, with blurred colours in the place of the encoder's features."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    colour = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 128 - 1
    return describe(colour, torch.nn.functional.avg_pool2d(colour, 2), colour)


def test_what_looks_like_the_object_is_marked_elsewhere() -> None:
    (before, mask), (now, wanted) = scene(100, 140), scene(180, 60)
    weights = fit(described(before), torch.from_numpy(quarter(mask))[None, None])
    marks = mark(described(now), weights)[0, 0].numpy()
    assert iou(marks > 0, quarter(wanted) > 0) > 0.6


def test_nothing_is_learnt_from_an_empty_mask() -> None:
    image, _ = scene(100, 140)
    weights = fit(described(image), torch.full((2, 1, 64, 64), -1024.0))
    assert not weights.any()
