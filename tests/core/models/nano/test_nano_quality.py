"""The committed weights do what their model card says, on a few made-up pictures that training never saw.

The floors are well below what the weights reach: they catch a broken file or a broken step, not a bad day.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sam_service.core.models.nano.sizes import FOLDER

from benchmarks.metrics import Mask, corrective_click, inner_point, region
from training.evaluate import Subject, Tally, measure_gone, points_prompt, prompt_of
from training.library import Library, of_pictures
from training.pictures import made_up
from training.views import Image8

PICTURES, CLICKS = 12, 3
CLICK_FLOOR, CORRECTED_FLOOR, BOX_FLOOR = 0.65, 0.85, 0.8
TRACK_FLOOR, KEPT_FLOOR, EMPTY_FLOOR = 0.65, 0.75, 0.65


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(FOLDER)


@pytest.fixture(scope="module")
def pictures() -> list[tuple[Image8, Mask]]:
    """Pictures and the mask of their largest object."""
    rng = np.random.default_rng(77)
    found: list[tuple[Image8, Mask]] = []
    while len(found) < PICTURES:
        image, labels = made_up(rng)
        areas = np.bincount(labels.ravel(), minlength=2)[1:]
        if areas.max() > 0.02 * labels.size:
            found.append((image, np.asarray(labels == 1 + int(areas.argmax()))))
    return found


@pytest.fixture(scope="module")
def clicked(subject: Subject, pictures: Sequence[tuple[Image8, Mask]]) -> list[list[Mask]]:
    """The mask of each picture's object after one click, and after each of two corrections."""
    found = []
    for image, truth in pictures:
        bank, frame = subject.session(), subject.frame(0, image)
        points, labels, masks = [inner_point(truth)], [1], []
        for _ in range(CLICKS):
            mask, _ = subject.ask(bank, frame, points_prompt(points, labels))
            masks.append(mask)
            click = corrective_click(mask, truth, np.ones_like(truth))
            if click is not None:
                points, labels = [*points, click[:2]], [*labels, click[2]]
        found.append(masks)
    return found


def mean(pictures: Sequence[tuple[Image8, Mask]], masks: Sequence[Mask]) -> float:
    return float(np.mean([region(mask, truth) for mask, (_, truth) in zip(masks, pictures, strict=True)]))


def test_a_click_finds_the_object(pictures: Sequence[tuple[Image8, Mask]], clicked: list[list[Mask]]) -> None:
    assert mean(pictures, [masks[0] for masks in clicked]) > CLICK_FLOOR


def test_corrections_help(pictures: Sequence[tuple[Image8, Mask]], clicked: list[list[Mask]]) -> None:
    overlaps = [mean(pictures, [masks[number] for masks in clicked]) for number in range(CLICKS)]
    assert overlaps == sorted(overlaps) and overlaps[-1] > CORRECTED_FLOOR


def test_a_correction_leaves_alone_what_was_right_far_away(pictures: Sequence[tuple[Image8, Mask]],
                                                           clicked: list[list[Mask]]) -> None:
    spoilt = []
    for (_, truth), (first, second, _) in zip(pictures, clicked, strict=True):
        click = corrective_click(first, truth, np.ones_like(truth))
        if click is not None:
            ys, xs = np.indices(truth.shape)
            far = np.hypot(ys - click[1], xs - click[0]) > 0.3 * np.hypot(*truth.shape)
            spoilt.append(float((second != truth)[far & (first == truth)].mean()))
    assert np.mean(spoilt) < 0.01


def test_a_box_finds_the_object(subject: Subject, pictures: Sequence[tuple[Image8, Mask]]) -> None:
    masks = [subject.ask(subject.session(), subject.frame(0, image), prompt_of("box", truth))[0] for image, truth in pictures]
    assert mean(pictures, masks) > BOX_FLOOR


def test_objects_are_followed_and_let_go(subject: Subject) -> None:
    rng, tally = np.random.default_rng(78), Tally()
    library: Library = of_pictures([f"made-up/{n}" for n in range(30)], [made_up(rng) for _ in range(30)])
    measure_gone(subject, library, tally, seed=2, clips=25)
    assert np.mean(tally.values["made J"]) > TRACK_FLOOR
    assert np.mean(tally.values["made kept"]) > KEPT_FLOOR
    assert np.mean(tally.values["made empty"]) > EMPTY_FLOOR


def test_the_weights_are_small_enough_to_live_in_the_repository() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size < 20e6
