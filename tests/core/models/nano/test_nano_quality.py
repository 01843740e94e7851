"""The committed weights do what their model card says, on a few generated clips that training never saw.

The floors are well below what the card reports: they catch a broken file or a broken step, not a bad day.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from sam_service.core.models.nano.sizes import FOLDER as NANO_FOLDER

from training.cases import own_cases
from training.evaluate import Subject, Tally

CLIPS = 10


@pytest.fixture(scope="module")
def tally() -> Tally:
    subject, tally = Subject(NANO_FOLDER, None), Tally()
    options = argparse.Namespace(seed=4, clips=CLIPS, prompt="click", textures=None, cutouts=None)
    for case in own_cases(options):
        tally.add(case, subject.run(case, tally, corrections=2))
    return tally


def test_a_click_finds_the_object(tally: Tally) -> None:
    assert np.mean(tally.click) > 0.6


def test_corrections_help(tally: Tally) -> None:
    assert np.mean(tally.corrected) > np.mean(tally.click)


def test_the_object_is_followed(tally: Tally) -> None:
    assert np.mean(tally.track) > 0.5


def test_the_weights_are_small_enough_to_live_in_the_repository() -> None:
    assert (Path(NANO_FOLDER) / "model.safetensors").stat().st_size < 20e6
