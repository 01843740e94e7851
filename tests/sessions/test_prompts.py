"""How prompts on one frame come together."""

from __future__ import annotations

import numpy as np
from sam_service.core.prompts import MaskPrompt, PointPrompt
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
