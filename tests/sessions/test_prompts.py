"""How prompts on one frame come together."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sam_service.core.prompts import MaskPrompt, PointPrompt
from sam_service.errors import InvalidInput, InvalidPrompt, ServiceError, TooLarge
from sam_service.masks.png import encode_png, to_base64
from sam_service.sessions.prompts import PromptInput, check_prompt, is_positive, merge


def prompt(**fields: object) -> PointPrompt:
    checked = check_prompt(PromptInput(**fields), 100, 50)  # type: ignore[arg-type]
    assert isinstance(checked, PointPrompt)
    return checked


def test_a_box_comes_first_as_two_corners() -> None:
    both = prompt(points=[[5, 6]], labels=[0], box=[1, 2, 30, 40])
    assert both.points.tolist() == [[1, 2], [30, 40], [5, 6]]
    assert both.labels.tolist() == [2, 3, 0]
    assert both.box is not None
    assert both.box.tolist() == [1, 2, 30, 40]
    assert is_positive(both)


def test_points_add_and_a_new_box_takes_the_old_ones_place() -> None:
    first = prompt(points=[[5, 6]], box=[1, 2, 30, 40])
    second = merge(first, prompt(points=[[7, 8]], labels=[0], box=[0, 0, 20, 20]), replace=False)
    assert isinstance(second, PointPrompt)
    assert second.points.tolist() == [[0, 0], [20, 20], [5, 6], [7, 8]]
    assert second.labels.tolist() == [2, 3, 1, 0]
    assert not second.fresh


def test_replacing_starts_over() -> None:
    replaced = merge(prompt(points=[[5, 6]]), prompt(points=[[7, 8]]), replace=True)
    assert isinstance(replaced, PointPrompt)
    assert replaced.points.tolist() == [[7, 8]]
    assert replaced.fresh


def test_points_after_a_mask_stand_alone() -> None:
    after = merge(MaskPrompt(np.ones((50, 100), bool)), prompt(points=[[7, 8]]), replace=False)
    assert isinstance(after, PointPrompt)
    assert after.points.tolist() == [[7, 8]]


def test_fractions_become_pixels() -> None:
    assert prompt(points=[[0.5, 1.0]], normalized=True).points.tolist() == [[50, 50]]


def test_a_box_is_news_with_the_prompt_that_it_came_with() -> None:
    clicks = check_prompt(PromptInput(points=[[3, 4]]), 20, 10)
    box = check_prompt(PromptInput(box=[1, 2, 8, 9]), 20, 10)
    told = [merge(None, box, replace=False), merge(clicks, box, replace=False), merge(box, clicks, replace=False)]
    assert [isinstance(prompt, PointPrompt) and prompt.boxed for prompt in told] == [True, True, False]


@pytest.mark.parametrize(("given", "taken"), [
    ([-0.9, 10], [0, 10]), ([100.99, 50.99], [100, 50]), ([100, 50], [100, 50]), ([0, -0.001], [0, 0])])
def test_less_than_a_pixel_outside_is_the_edge(given: list[float], taken: list[float]) -> None:
    assert prompt(points=[given]).points.tolist() == [taken]
    fractions = [given[0] / 100, given[1] / 50]
    assert prompt(points=[fractions], normalized=True).points.tolist() == [pytest.approx(taken)]
    assert prompt(box=[-0.5, -0.5, 100.5, 50.5]).points.tolist() == [[0, 0], [100, 50]]


@pytest.mark.parametrize(("fields", "told"), [
    ({"points": [[101.0001, 10]]}, "(101.0001, 10) lies outside the frame: x goes from 0 to 100"),
    ({"points": [[10, 12345678.25]]}, "(10, 12345678.25)"),
    ({"points": [[-1, 10]]}, "(-1, 10)"),
    ({"points": [[1.0101, 0.5]], "normalized": True}, "(1.0101, 0.5) lies outside the frame: x goes from 0 to 1,"),
    ({"points": [[1e300, 0]]}, "(1e+300, 0)"),
    ({"box": [10, 10, 101.00001, 20]}, "(101.00001, 20)"),
    ({"box": [10.0000001, 10, 10, 20]}, "[10.0000001, 10, 10, 20]"),
])
def test_the_message_prints_the_number_that_was_given(fields: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidPrompt) as refused:
        prompt(**fields)
    assert told in refused.value.message


@pytest.mark.parametrize(("width", "height", "kind"), [(99, 50, ServiceError), (50, 100, ServiceError), (200, 100, TooLarge)])
def test_a_mask_of_another_size_is_told_the_right_one(width: int, height: int, kind: type[ServiceError]) -> None:
    with pytest.raises(kind) as refused:
        check_prompt(PromptInput(mask=to_base64(encode_png(np.ones((height, width), bool)))), 100, 50)
    assert f"{width} x {height}" in refused.value.message and "100 x 50" in refused.value.message
    assert refused.value.field == "mask"


def test_a_stored_mask_of_wider_rules_is_not_lost() -> None:
    labels = np.zeros((50, 100), np.uint8)
    labels[5:15, 5:15], labels[20:30, 20:30], labels[30:40, 60:90] = 1, 2, 3
    ok, png = cv2.imencode(".png", labels)
    assert ok
    raw = PromptInput(mask=to_base64(png.tobytes()))
    with pytest.raises(InvalidInput):
        check_prompt(raw, 100, 50)
    stored = check_prompt(raw, 100, 50, stored=True)
    assert isinstance(stored, MaskPrompt) and np.array_equal(stored.mask, labels > 0)
