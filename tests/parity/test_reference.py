"""The recording itself: it covers every step, its masks are worth comparing, and the peer still gives the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from recorded import EDGETAM_PLAN, FOLDER, Recording
from seeded_weights import SIZES, write_seeded

PEER_PYTHON = os.environ.get("SAM2_PEER_PYTHON")
EDGETAM_PYTHON = os.environ.get("EDGETAM_PEER_PYTHON")
RECORDER = Path(__file__).parent / "record_reference.py"


@pytest.fixture(scope="module", params=["sam2", "edgetam"])
def each(request: pytest.FixtureRequest, recording: Recording) -> Recording:
    return recording if request.param == "sam2" else Recording(FOLDER / "edgetam-256.npz", EDGETAM_PLAN)


def test_masks_have_both_signs_and_objects_are_mostly_there(each: Recording) -> None:
    answers = [each.answer(*step) for step in each.steps()]
    present = np.concatenate([(answer.scores > 0).ravel() for answer in answers])
    shares = np.concatenate([(answer.logits > 0).mean(axis=(-1, -2)).ravel() for answer in answers])
    assert present.mean() > 0.5
    assert np.all((shares[present] > 0.05) & (shares[present] < 0.95))


def test_every_step_has_whole_finite_arrays(each: Recording) -> None:
    for step in each.steps():
        answer = each.answer(*step)
        count, objects = answer.scores.shape
        assert answer.frames.shape == (count,)
        assert answer.logits.shape == (count, objects, 64, 64)
        assert answer.pointers.shape == (count, objects, 256)
        assert all(np.isfinite(array).all() for array in (answer.logits, answer.scores, answer.pointers))


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.skipif(not PEER_PYTHON, reason="SAM2_PEER_PYTHON names no python with sam2")
def test_peer_still_answers_the_same(tmp_path: Path, recording: Recording) -> None:
    _record_again(str(PEER_PYTHON), SIZES, tmp_path, recording, "meta-shapes.json")


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.skipif(not EDGETAM_PYTHON, reason="EDGETAM_PEER_PYTHON names no python with edgetam-dimos")
def test_edgetam_still_answers_the_same(tmp_path: Path) -> None:
    committed = Recording(FOLDER / "edgetam-256.npz", EDGETAM_PLAN)
    _record_again(str(EDGETAM_PYTHON), ("edgetam",), tmp_path, committed, "edgetam-shapes.json", "--edgetam")


def _record_again(python: str, sizes: Iterable[str], folder: Path, committed: Recording, shapes: str, *options: str) -> None:
    for size in sizes:
        write_seeded(folder / f"{size}.pt", size)
    command = [python, str(RECORDER), str(folder), "--out", str(folder / "again.npz"), *options]
    subprocess.run(command, check=True, capture_output=True)
    again, known = Recording(folder / "again.npz").arrays, committed.arrays
    assert set(again.files) == set(known.files)
    for key in (key for key in again.files if not key.endswith("/same_as")):
        limit = 1e-4 * np.abs(known[key].astype(float)).max()
        np.testing.assert_allclose(again[key].astype(float), known[key].astype(float), rtol=0, atol=limit)
    assert (folder / shapes).read_text() == (FOLDER / shapes).read_text()
