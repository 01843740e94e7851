"""The trainer: what it sees, what it asks, what an answer costs; a run repeats, resumes, learns, and exports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sam_service.core.models import registry
from sam_service.core.models.family import Checkpoint
from sam_service.core.models.nano.architecture import Answer, Network

from training.checkpoint import export, load
from training.library import DEV_CLIPS, Entry, Library, is_dev, of_pictures, open_library
from training.losses import Truth, cost
from training.neighbours import cut_out, with_neighbour
from training.pictures import made_up
from training.prompts import Asked, correction, first_prompt, tensors, worn
from training.sampler import FRAMES, Sampler
from training.train import FIRST, SECOND, Course, Trainer, draw, main
from training.views import seen, zoomed_view

SMALL = Course(steps=4, photos=1, clips=1, side=96, small_side=64, encoder_from=1, warm_up=1)


@pytest.fixture(scope="module")
def library() -> Library:
    rng = np.random.default_rng(3)
    return of_pictures([f"picture-{n}" for n in range(8)], [made_up(rng) for _ in range(8)])


def trainer(library: Library, out: Path, course: Course = SMALL) -> Trainer:
    torch.manual_seed(0)
    out.mkdir(exist_ok=True)
    return Trainer(course, library, out, 5, torch.device("cpu"), Network())


def test_a_run_repeats_and_goes_on_where_it_stopped(library: Library, tmp_path: Path) -> None:
    undisturbed, interrupted = trainer(library, tmp_path / "a"), trainer(library, tmp_path / "b")
    losses = [undisturbed.one_step(draw(library, SMALL, 5, step)) for step in range(3)]
    assert losses[:2] == [interrupted.one_step(draw(library, SMALL, 5, step)) for step in range(2)]
    interrupted.save()
    resumed = trainer(library, tmp_path / "b")
    assert resumed.step == 2
    assert resumed.one_step(draw(library, SMALL, 5, 2)) == losses[2]
    for name, value in undisturbed.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_a_run_of_another_course_is_not_resumed(library: Library, tmp_path: Path) -> None:
    trainer(library, tmp_path).save()
    with pytest.raises(SystemExit, match="'steps': 4"):
        trainer(library, tmp_path, Course(steps=9))


def test_a_few_steps_lower_the_loss(library: Library, tmp_path: Path) -> None:
    run = trainer(library, tmp_path, Course(steps=200, photos=2, clips=1, side=64, small_side=64, encoder_from=1000, warm_up=1))
    same = draw(library, run.course, 5, 0)
    first = run.one_step(same)
    for _ in range(7):
        last = run.one_step(same)
    assert last < 0.8 * first


def test_the_service_loads_what_a_run_exports(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Network()
    export(network.state_dict(), tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 20e6
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "nano-3"
    assert registry.load("nano", Checkpoint(tmp_path)).info.parameters == sum(p.numel() for p in network.parameters())
    for name, value in load(tmp_path).state_dict().items():
        assert torch.allclose(value, network.state_dict()[name], atol=2e-3)


def test_a_folder_of_pictures_is_divided_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in [*(f"photos/{n}" for n in range(40)), "davis16/elephant/0", "davis16/bear/0", "davis16/bear/1"]:
        image, labels = made_up(rng)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), image[..., ::-1])
        cv2.imwrite(str(tmp_path / f"{name}.png"), labels)
    train, dev = (open_library(tmp_path, tmp_path / "cache", dev=dev) for dev in (False, True))
    assert (list(train.clips), list(dev.clips)) == (["bear"], ["elephant"])
    names = {entry.name for entry in train.photos}, {entry.name for entry in dev.photos}
    assert names[0] and names[1] and not names[0] & names[1]
    image, labels = train.picture(train.clips["bear"][1])
    drawn = cv2.imread(str(tmp_path / "davis16/bear/1.png"), cv2.IMREAD_UNCHANGED)
    assert drawn is not None and np.array_equal(labels, drawn)
    assert image.shape == (*labels.shape, 3)
    assert is_dev("davis16/surf/00001.jpg") and not is_dev("davis16/bus/00001.jpg") and len(DEV_CLIPS) == 8


def test_a_cache_of_another_folder_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / f"{name}.webp"), np.zeros((32, 32, 3), np.uint8))
        cv2.imwrite(str(tmp_path / name / f"{name}.png"), np.ones((32, 32), np.uint8))
    open_library(tmp_path / "one", tmp_path / "cache", dev=False)
    with pytest.raises(ValueError, match="another folder"):
        open_library(tmp_path / "two", tmp_path / "cache", dev=False)


def test_clips_begin_with_the_object_and_often_lose_it(library: Library) -> None:
    sampler = Sampler(library, np.random.default_rng(1))
    clips = [sampler.clip((64, 96)) for _ in range(40)]
    for clip in clips:
        assert len(clip.images) == len(clip.masks) == len(clip.distances) == FRAMES
        assert clip.images[0].shape == (64, 96, 3) and clip.masks[0].shape == (64, 96)
        assert np.nansum(clip.masks[0]) > 10 and clip.distances[0] == 0 < clip.distances[1] < clip.distances[-1]
    gone = [np.nansum(mask) == 0 for clip in clips for mask in clip.masks[1:]]
    assert 0.05 < np.mean(gone) < 0.4


def test_prompts_and_corrections_are_where_they_should_be() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    for _ in range(30):
        asked = first_prompt(mask, rng)
        assert all(mask[int(y), int(x)] for x, y in asked.points)
        assert asked.box is None or (abs(np.array(asked.box) - [20, 10, 50, 30]) < 12).all()
    answer = mask.copy()
    answer[:, :35] = False
    answer[0:4, 0:4] = True
    (x, y), label = correction(answer, mask, np.ones_like(mask), rng) or ((0, 0), -1)
    assert label == 1 and mask[int(y), int(x)] and not answer[int(y), int(x)]
    assert correction(mask, mask, np.ones_like(mask), rng) is None
    assert correction(answer, mask, mask == answer, rng) is None
    assert np.mean([(worn(mask, rng) != mask).any() for _ in range(20)]) > 0
    prompts = tensors([Asked([(1.0, 2.0)], [0]), Asked(box=(1, 2, 3, 4))])
    assert prompts.points.shape == (2, 1, 2) and prompts.labels.tolist() == [[0], [-1]]
    assert prompts.boxes[0].isnan().all() and prompts.boxes[1].tolist() == [1, 2, 3, 4]


def test_a_right_answer_costs_less_and_unusable_pixels_nothing() -> None:
    masks = torch.zeros(1, 1, 64, 64)
    masks[..., 16:48, 16:48] = 1
    truth = Truth.of(masks)

    def answer(logits: torch.Tensor, presence: float) -> Answer:
        coarse = torch.nn.functional.avg_pool2d(logits, 4)
        return Answer(logits, coarse, torch.full((1,), 3.0), torch.full((1,), presence))

    right = (truth.mask - 0.5) * 16
    assert cost(answer(right, 3.0), truth).total < 0.3 < cost(answer(-right, 3.0), truth).total
    assert cost(answer(right, 3.0), truth).total < cost(answer(right, -3.0), truth).total
    assert cost(answer(right, 3.0), truth).iou.item() == 1
    masked = masks.clone()
    masked[..., :16, :] = torch.nan
    wrong_there = right.clone()
    wrong_there[..., :4, :] = 8
    unusable = Truth.of(masked)
    assert cost(answer(wrong_there, 3.0), unusable).iou.item() == 1
    assert torch.allclose(cost(answer(wrong_there, 3.0), unusable).total, cost(answer(right, 3.0), unusable).total, atol=0.02)
    gone = Truth.of(torch.zeros(1, 1, 64, 64))
    assert cost(answer(torch.full_like(right, -8.0), -3.0), gone).total < 0.1 < cost(answer(right, 3.0), gone).total


def test_neighbours_stand_beside_the_object_and_one_of_them_may_be_asked_for() -> None:
    rng = np.random.default_rng(2)
    image = np.full((96, 128, 3), 60, np.uint8)
    mask = np.zeros((96, 128), np.float32)
    mask[30:60, 40:80] = 1
    mask[:, :8] = np.nan
    labels = np.zeros((50, 60), np.uint8)
    labels[10:40, 15:45] = 1
    neighbour = cut_out(np.full((50, 60, 3), 220, np.uint8), labels, 1)
    assert neighbour is not None and neighbour[0].shape == (30, 30, 3) and cut_out(image, labels[:9, :9], 1) is None
    before, behind, asked = 0, 0, 0
    for _ in range(80):
        pasted, found = with_neighbour(rng, image, mask, neighbour)
        bright = (pasted != 60).any(2)
        assert np.isnan(found[:, :8]).any() or bright[:, :8].any()
        own = np.nan_to_num(found) > 0.5
        if not (pasted != image).any():
            assert np.array_equal(found, mask, equal_nan=True)
        elif (own & (mask != 1)).any():
            asked += 1
            assert pasted[own].mean() > 100
        else:
            before += bool((own < (mask == 1)).any())
            behind += bool((own == (mask == 1)).all() and bright.any())
            assert own.sum() > 0.5 * 30 * 40
    assert before > 3 and behind > 3 and asked > 3


def test_a_zoomed_view_makes_small_objects_large() -> None:
    rng = np.random.default_rng(4)
    labels = np.zeros((300, 400), np.uint8)
    labels[100:112, 200:216] = 1
    views = [zoomed_view(rng, labels, (96, 128), 1) for _ in range(40)]
    shares = [float((seen(labels, view, (96, 128), labels=255) == 1).mean()) for view in views]
    assert np.mean(shares) > 5 * (labels == 1).mean() and min(shares) > 0
    sizes = Entry("coco_mini/1.webp", 300, 400, 0, {1: 192, 2: 149, 3: 480})
    assert (sizes.objects, sizes.small_objects, sizes.weight) == ([3], [1, 3], 3.7)


def test_the_second_course_goes_on_from_a_checkpoint(library: Library, tmp_path: Path) -> None:
    course = replace(SECOND, steps=4, photos=1, side=64)
    run = trainer(library, tmp_path, course)
    blocks = [block.project.weight for block in run.network.encoder.blocks]
    before = [weight.detach().clone() for weight in blocks]
    run.one_step(draw(library, course, 5, 0))
    moved = [not torch.equal(weight, old) for weight, old in zip(blocks, before, strict=True)]
    frozen = SECOND.frozen_blocks
    assert moved == [False] * frozen + [True] * (len(moved) - frozen)
    assert course.side_at(0) == 64 and course.kept_at(0) == SECOND.averaging > FIRST.kept_at(0)
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "none"), "--second"])
    assert not (tmp_path / "none").exists()
