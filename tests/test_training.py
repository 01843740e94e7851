"""The trainer: it goes on where it stopped, draws the same by the same seed, and leaves alone what a course freezes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sam_service.core.models.nano.sizes import FOLDER as NANO_FOLDER
from training.cases import Case
from training.clips import make_clip

from training import pool
from training.evaluate import Subject, Tally
from training.textures import TextureBank
from training.train import POLISH, TRACKING, Course, Place, Trainer


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of two clips with procedural pixels."""
    folder, rng = tmp_path_factory.mktemp("pool"), np.random.default_rng(0)
    slots, bank = pool.Pool(folder, 2), TextureBank(rng, None)
    for slot in range(2):
        item = pool.record(rng, make_clip(rng, bank))
        while not item["present"][0].any():
            item = pool.record(rng, make_clip(rng, bank))
        slots.write(slot, item)
    return folder


def trainer(course: Course, out: Path, clips: Path) -> Trainer:
    stages = tuple(replace(stage, images=1, clips=1 if stage.clips else 0, frames=min(stage.frames, 3), size=128)
                   for stage in course.stages)
    out.mkdir(exist_ok=True)
    return Trainer(replace(course, stages=stages, processes=1, warm_up=1), Place(out, clips, 1, NANO_FOLDER), 0)


def test_a_run_goes_on_where_it_stopped_and_seeds_repeat_it(tmp_path: Path, clips: Path) -> None:
    first, second = trainer(POLISH, tmp_path / "a", clips), trainer(POLISH, tmp_path / "b", clips)
    losses = [[run.one_step(0.0)[1].total.item() for _ in range(2)] for run in (first, second)]
    assert losses[0] == losses[1]
    first.spent = 7.0
    first.save()
    resumed = trainer(POLISH, tmp_path / "a", clips)
    assert (resumed.step, resumed.spent) == (2, 7.0)
    assert all(torch.equal(a, b) for a, b in zip(first.model.state_dict().values(), resumed.model.state_dict().values(),
                                                 strict=True))
    assert (tmp_path / "a" / "checkpoint" / "model.safetensors").stat().st_size < 20e6


def test_training_tracking_leaves_the_answers_to_prompts_as_they_are(tmp_path: Path, clips: Path) -> None:
    run = trainer(TRACKING, tmp_path, clips)
    for _ in range(2):
        run.one_step(0.0)
    run.average.state = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.save()
    before, after = (_followed(folder, clips) for folder in (NANO_FOLDER, tmp_path / "checkpoint"))
    assert np.array_equal(before[0], after[0])
    assert not np.array_equal(before[1], after[1])


def _followed(checkpoint: Path, clips: Path) -> NDArray[np.float32]:
    """Logits of a clicked object on two frames of the first clip."""
    record = {name: array[0] for name, array in pool.Pool(clips).arrays.items()}
    target = int(record["present"][0].argmax())
    case = Case("clip", list(record["frames"][:2]), {}, record["clicks"][0, target])
    subject, logits = Subject(checkpoint, None), []
    step = subject.predictor.step

    def noted(*args: object, **options: object) -> object:
        outputs = step(*args, **options)  # type: ignore[arg-type]
        logits.append(outputs[0].logits)
        return outputs

    subject.predictor.step = noted  # type: ignore[method-assign,assignment]
    subject.run(replace(case, truth={0: np.ones((256, 256), bool)}), Tally(), 0)
    return np.stack(logits)
