"""The recording itself: it covers every step, its masks are worth comparing, and the peer still gives the same."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from recorded import FOLDER, Recording
from seeded_weights import SIZES, write_seeded

PEER_PYTHON = os.environ.get("SAM2_PEER_PYTHON")
RECORDER = Path(__file__).parent / "record_reference.py"


def test_masks_have_both_signs_and_objects_are_mostly_there(recording: Recording) -> None:
    answers = [recording.answer(*step) for step in recording.steps()]
    present = np.concatenate([(answer.scores > 0).ravel() for answer in answers])
    shares = np.concatenate([(answer.logits > 0).mean(axis=(-1, -2)).ravel() for answer in answers])
    assert present.mean() > 0.5
    assert np.all((shares[present] > 0.05) & (shares[present] < 0.95))


def test_every_step_has_whole_finite_arrays(recording: Recording) -> None:
    for step in recording.steps():
        answer = recording.answer(*step)
        count, objects = answer.scores.shape
        assert answer.frames.shape == (count,)
        assert answer.logits.shape == (count, objects, 64, 64)
        assert answer.pointers.shape == (count, objects, 256)
        assert all(np.isfinite(array).all() for array in (answer.logits, answer.scores, answer.pointers))


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.skipif(not PEER_PYTHON, reason="SAM2_PEER_PYTHON names no python with sam2")
def test_peer_still_answers_the_same(tmp_path: Path, recording: Recording) -> None:
    for size in SIZES:
        write_seeded(tmp_path / f"{size}.pt", size)
    command = [str(PEER_PYTHON), str(RECORDER), str(tmp_path), "--out", str(tmp_path / "again.npz")]
    subprocess.run(command, check=True, capture_output=True)
    again, committed = Recording(tmp_path / "again.npz").arrays, recording.arrays
    assert set(again.files) == set(committed.files)
    for key in (key for key in again.files if not key.endswith("/same_as")):
        limit = 1e-4 * np.abs(committed[key].astype(float)).max()
        np.testing.assert_allclose(again[key].astype(float), committed[key].astype(float), rtol=0, atol=limit)
    assert (tmp_path / "meta-shapes.json").read_text() == (FOLDER / "meta-shapes.json").read_text()
