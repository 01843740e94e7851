"""Steps on a spill: taken back and brought back to the bit, across restarts, in any order; forgotten ones leave nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import torch
from sam_service.core.memory.bank import FrameMemory, Kind
from sam_service.core.memory.generations import KeptStep
from sam_service.core.memory.spill import DiskSpill

OBJECTS, FRAMES = (1, 2, 3), range(4)
Seen = dict[tuple[int, Kind, int], float]


def memory(value: float, reverse: bool | None) -> FrameMemory:
    return FrameMemory(logits=torch.full((2, 2), value), object_score=value, iou=0.5, state={}, reverse=reverse)


def seen(spill: DiskSpill) -> Seen:
    return {(number, kind, frame): spill.load(number, kind, frame).object_score for number, kind, frame, _ in spill.entries()}


@dataclass
class Model:
    """What the spill should show: the present, and whole copies of it from before each step and from when one was undone."""

    now: Seen = field(default_factory=dict)
    steps: list[tuple[KeptStep, Seen]] = field(default_factory=list)
    undone: list[tuple[KeptStep, Seen]] = field(default_factory=list)
    base: int = 0
    last: int = 0

    def put_back(self, objects: frozenset[int], earlier: Seen) -> None:
        self.now = {key: value for key, value in self.now.items() if key[0] not in objects} | {
            key: value for key, value in earlier.items() if key[0] in objects}

    def kept(self) -> list[KeptStep]:
        return [step for step, _ in self.steps] + [KeptStep(step.step, step.objects, True) for step, _ in self.undone]


def change(chance: random.Random, spill: DiskSpill, model: Model) -> None:
    """One write: only where nothing is undone, as sessions do."""
    number, kind, frame = chance.choice(OBJECTS), chance.choice(list(Kind)), chance.choice(FRAMES)
    match chance.randrange(6):
        case 0:
            spill.delete_object(number)
            model.now = {key: value for key, value in model.now.items() if key[0] != number}
        case 1:
            spill.delete(number, kind, frame)
            model.now.pop((number, kind, frame), None)
        case _:
            value = chance.random()
            spill.save(number, kind, frame, memory(value, chance.choice([True, False, None])))
            model.now[number, kind, frame] = value


def move(chance: random.Random, spill: DiskSpill, model: Model) -> None:
    """A step begins, is undone, is brought back, is forgotten or fails."""
    match chance.randrange(6):
        case 0 | 1:
            for step, _ in model.undone:
                spill.discard(step.step)
            model.last += chance.randint(1, 3)
            step = KeptStep(model.last, frozenset(chance.sample(OBJECTS, chance.randint(1, 2))))
            spill.begin(step.step, step.objects)
            model.steps.append((step, dict(model.now)))
            model.undone = []
        case 2 if model.steps:
            step, before = model.steps.pop()
            spill.switch(step.step, step.objects, undone=True)
            model.undone.insert(0, (step, dict(model.now)))
            model.put_back(step.objects, before)
        case 3 if model.undone:
            step, after = model.undone.pop(0)
            spill.switch(step.step, step.objects, undone=False)
            model.steps.append((step, dict(model.now)))
            model.put_back(step.objects, after)
        case 4 if model.steps and len(model.steps) > 2:
            step, _ = model.steps.pop(0)
            spill.forget(step.step)
            model.base = step.step
        case 5 if model.steps and not model.undone:
            step, before = model.steps.pop()
            spill.discard(step.step)
            model.put_back(step.objects, before)


def test_any_order_of_steps_shows_what_there_was(tmp_path: Path) -> None:
    for seed in range(8):
        chance, model, folder = random.Random(seed), Model(), tmp_path / str(seed)
        spill = DiskSpill(folder, 1 << 30)
        for _ in range(60):
            if chance.random() < 0.4:
                move(chance, spill, model)
            elif not model.undone:
                change(chance, spill, model)
            if chance.random() < 0.1:
                spill = DiskSpill(folder, 1 << 30, model.base, model.kept())
            assert seen(spill) == model.now, seed
            files = [path for path in folder.glob("*/*") if path.is_file()]
            assert spill.nbytes == sum(path.stat().st_size for path in files), seed
        for step, _ in model.undone:
            spill.discard(step.step)
        for step, _ in model.steps:
            spill.forget(step.step)
        assert seen(spill) == model.now, seed
        assert len([path for path in folder.glob("*/*") if path.is_file()]) == len(model.now), seed
        assert spill.nbytes == spill.visible_bytes


def test_files_of_a_step_that_never_came_to_its_end_are_swept(tmp_path: Path) -> None:
    spill = DiskSpill(tmp_path, 1 << 30)
    spill.save(1, Kind.TRACKED, 0, memory(1, False))
    spill.begin(7, [1])
    spill.save(1, Kind.TRACKED, 0, memory(2, False))
    spill.save(1, Kind.TRACKED, 1, memory(2, False))
    again = DiskSpill(tmp_path, 1 << 30)
    assert seen(again) == {(1, Kind.TRACKED, 0): 1}
    assert len(list(tmp_path.glob("*/*"))) == 1


def test_of_two_files_that_a_crash_left_for_one_memory_one_stays(tmp_path: Path) -> None:
    spill = DiskSpill(tmp_path, 1 << 30)
    spill.save(1, Kind.CONDITIONING, 0, memory(1, None))
    (path,) = tmp_path.glob("1/*")
    path.with_name(path.name.replace("prompted", "forward")).write_bytes(path.read_bytes())
    again = DiskSpill(tmp_path, 1 << 30)
    assert len(list(again.entries())) == len(list(tmp_path.glob("1/*"))) == 1
