"""Corrections without a network: a click changes what it belongs to, and nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sam_service.core.frames import Crop, Window
from sam_service.core.models.nano.corrections import corrected, within
from sam_service.core.models.nano.grabcut import SIDE
from sam_service.core.prompts import PointPrompt

Mask = NDArray[np.bool_]
BODY, HEAD, HOLE = ((90, 110), 40), ((90, 55), 16), ((90, 115), 12)


def disc(place: tuple[tuple[int, int], int]) -> Mask:
    (x, y), radius = place
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.asarray(np.hypot(columns - x, rows - y) < radius)


def tail() -> Mask:
    line = np.zeros((SIDE, SIDE), np.uint8)
    cv2.line(line, (128, 110), (170, 70), 1, 5)
    return line > 0


def scene() -> NDArray[np.uint8]:
    """A body with a head and a tail of other colours, and a hole through which the ground is seen."""
    image = np.full((SIDE, SIDE, 3), (70, 110, 60), np.float32)
    for mask, colour in ((disc(BODY), (180, 90, 70)), (disc(HEAD), (60, 70, 150)), (tail(), (210, 200, 190))):
        image[mask] = colour
    image[disc(HOLE)] = (70, 110, 60)
    return (image + np.random.default_rng(0).normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def clicks(*points: tuple[float, float, int]) -> PointPrompt:
    return PointPrompt(np.array([p[:2] for p in points], np.float32), np.array([p[2] for p in points], np.int32))


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


TRUTH = (disc(BODY) | disc(HEAD) | tail()) & ~disc(HOLE)


@pytest.mark.parametrize(("missing", "click"), [(disc(HEAD), (90, 52, 1)), (tail(), (150, 89, 1)), (disc(HOLE), (90, 115, 0))])
def test_one_click_brings_back_a_part_and_touches_no_other(missing: Mask, click: tuple[float, float, int]) -> None:
    part = missing & (TRUTH if click[2] else True)
    before = TRUTH & ~part if click[2] else TRUTH | part
    after = corrected(before, scene(), clicks(click))
    assert iou(after, TRUTH) > max(0.97, iou(before, TRUTH))
    assert not ((after != before) & ~cv2.dilate(missing.astype(np.uint8), np.ones((7, 7))).astype(bool)).any()


def test_a_click_that_agrees_changes_nothing() -> None:
    assert (corrected(TRUTH, scene(), clicks((90, 140, 1), (20, 20, 0))) == TRUTH).all()


def test_where_no_click_is_wrong_there_is_nothing_to_put_back() -> None:
    fine = np.asarray(cv2.resize(TRUTH.astype(np.float32), (80, 80), interpolation=cv2.INTER_AREA) * 16 - 8, np.float32)
    assert within(Window(0, 0, SIDE, SIDE), scene(), clicks((90, 140, 1)), fine, None, SIDE, SIDE) is None


def test_no_click_is_overruled_by_a_later_one() -> None:
    before = TRUTH | disc(HOLE)
    after = corrected(before, scene(), clicks((90, 113, 1), (90, 120, 0)))
    assert after[113, 90] and not after[120, 90]


def test_clicks_outside_of_the_picture_are_left_out() -> None:
    assert (corrected(TRUTH, scene(), clicks((-3, 90, 1), (90, SIDE + 2, 1))) == TRUTH).all()


def test_many_wrong_clicks_at_once() -> None:
    rng = np.random.default_rng(1)
    points = [(float(x), float(y), int(TRUTH[int(y), int(x)])) for x, y in rng.uniform(0, SIDE, (64, 2))]
    after = corrected(~TRUTH, scene(), clicks(*points))
    assert all(after[int(y), int(x)] == label for x, y, label in points)


def test_a_click_far_outside_does_not_take_the_ground_in() -> None:
    """The ground hangs together with the click, is smooth, and its outline follows edges better than the tail's."""
    image = scene()
    line = np.zeros((SIDE, SIDE), np.uint8)
    cv2.line(line, (128, 110), (185, 40), 1, 7)
    image[line > 0] = (95, 125, 80)
    after = corrected(disc(BODY), image, clicks((178, 48, 1)))
    assert after[48, 178]
    assert after.sum() <= 2 * disc(BODY).sum()


def test_a_click_is_heeded_even_where_it_costs_most_of_the_mask() -> None:
    spilt = np.ones((SIDE, SIDE), np.bool_)
    assert not corrected(spilt, scene(), clicks((20, 20, 0)))[20, 20]


def test_within_a_window_of_a_frame_the_rest_of_the_finer_answer_stays() -> None:
    side, width, height = 80, 2 * SIDE, 2 * SIDE
    window = Window(SIDE, 0, 2 * SIDE, SIDE)
    before = TRUTH & ~disc(HEAD)
    fine = np.asarray(cv2.resize(before.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) * 16 - 8, np.float32)
    nothing = np.full((side, side), -8, np.float32)
    image = np.asarray(cv2.resize(scene(), (320, 320)), np.uint8)
    after = within(window, image, clicks((SIDE + 90, 52, 1)), nothing, Crop(window, fine), width, height)
    assert after is not None
    small = np.asarray(cv2.resize(TRUTH.astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA)) > 0
    assert iou(after > 0, small) > 0.9
    far = np.asarray(cv2.resize(cv2.dilate(disc(HEAD).astype(np.uint8), np.ones((9, 9))), (side, side))) == 0
    assert (after == fine)[far].all()
