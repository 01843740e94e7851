"""What the nano model is told beside its memory: first guesses, carried masks, marks by appearance."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sam_service.core.appearance import describe, fit, mark
from sam_service.core.motion import LIMIT, SIDE, backward_flow, carried, grey
from sam_service.core.proposal import BOX_SCALES, CLICK_RADII, proposals

from tests.clips import texture
from tests.support import iou

NO_POINTS, NO_LABELS = np.zeros((0, 2), np.float32), np.zeros(0, np.int32)


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
    return np.asarray((2 * small - 1) * LIMIT, np.float32)


def test_one_of_the_guesses_from_a_click_is_the_object() -> None:
    image, mask = scene(100, 140)
    guesses = proposals(image, np.array([[100, 140]], np.float32), np.ones(1, np.int32))
    assert guesses.shape == (len(CLICK_RADII), 64, 64)
    assert max(iou(guess > 0, quarter(mask) > 0) for guess in guesses) > 0.85


def test_guesses_from_a_box_lie_in_it() -> None:
    image, mask = scene(100, 140)
    guesses = proposals(image, NO_POINTS, NO_LABELS, np.array([70, 110, 130, 170], np.float32))
    assert guesses.shape == (len(BOX_SCALES), 64, 64)
    assert all(iou(guess > 0, quarter(mask) > 0) > 0.8 for guess in guesses)
    assert not (guesses[:, :26] > 0).any()


def test_guesses_are_the_same_every_time_and_keep_off_a_negative_click() -> None:
    image, _ = scene(100, 140)
    points, labels = np.array([[100, 140], [100, 60]], np.float32), np.array([1, 0], np.int32)
    first, second = proposals(image, points, labels), proposals(image, points, labels)
    assert np.array_equal(first, second)
    assert (first[:, 35, 25] > 0).all()
    assert not (first[:, 15, 25] > 0).any()


def test_clicks_in_the_corners_and_tiny_boxes_are_answered() -> None:
    image, _ = scene(100, 140)
    for x, y in ((0, 0), (255.9, 255.9), (0, 255.9)):
        assert np.isfinite(proposals(image, np.array([[x, y]], np.float32), np.ones(1, np.int32))).all()
        box = np.array([max(0, x - 1), max(0, y - 1), x, y], np.float32)
        assert np.isfinite(proposals(image, NO_POINTS, NO_LABELS, box)).all()


def test_only_negative_clicks_give_empty_guesses() -> None:
    image, _ = scene(100, 140)
    assert (proposals(image, np.array([[100, 140]], np.float32), np.zeros(1, np.int32)) < 0).all()


def test_a_mask_is_carried_to_where_the_object_went() -> None:
    (before, mask), (now, wanted) = scene(100, 140), scene(108, 134)
    flow = backward_flow(grey(now), grey(before), SIDE // 4)
    moved = carried(quarter(mask), flow)
    assert iou(moved > 0, quarter(wanted) > 0) > 0.85 > iou(quarter(mask) > 0, quarter(wanted) > 0)


def test_an_absent_object_is_carried_nowhere() -> None:
    (before, _), (now, _) = scene(100, 140), scene(108, 134)
    flow = backward_flow(grey(now), grey(before), SIDE // 4)
    assert (carried(np.full((64, 64), -1024, np.float32), flow) == -LIMIT).all()


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
