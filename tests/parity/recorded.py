"""Reads what `record_reference.py` recorded: the scenarios (JSON) and what the peer answered to each step (npz)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "reference"


def read_plan(name: str) -> dict[str, Any]:
    """A file of scenarios; one that is `like` another takes what it does not say from there: all scenarios but `without`, and
    the first few steps of those that are `shortened`."""
    plan: dict[str, Any] = json.loads((FOLDER / name).read_text())
    if "like" not in plan:
        return plan
    other = read_plan(plan["like"])
    taken = [{**scenario, "steps": scenario["steps"][:plan["shortened"].get(scenario["name"])]}
             for scenario in other["scenarios"] if scenario["name"] not in plan["without"]]
    return {**other, **plan, "scenarios": taken + plan["scenarios"]}


PLAN, EDGETAM_PLAN = read_plan("scenarios.json"), read_plan("edgetam.json")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the peer kept after one step: F frames in the order of processing, O objects in the order of their first
    prompt (only the prompted one after a prompt), logits at a quarter of the image size S."""

    frames: NDArray[np.int64]  # (F,)
    logits: NDArray[np.float32]  # (F, O, S/4, S/4); -1024 everywhere where the object counts as absent
    scores: NDArray[np.float32]  # (F, O); over 0 where the object is there
    pointers: NDArray[np.float32]  # (F, O, 256)
    video: NDArray[np.float32] | None = None  # (1, 1, height, width), for prompts that ask for it


class Recording:
    """One npz file. Arrays are read when they are asked for."""

    def __init__(self, path: Path = FOLDER / "tiny-256.npz", plan: dict[str, Any] = PLAN) -> None:
        self.arrays = np.load(path)
        self.plan = plan

    def answer(self, scenario: str, step: int) -> Answer:
        """The answer to step number `step` of `scenario`. Raises KeyError if there is no such step."""
        name = f"{scenario}/{step}"
        if f"{name}/same_as" in self.arrays:
            name = str(self.arrays[f"{name}/same_as"])
        keys = ("frames", "logits", "scores", "pointers", "video")
        return Answer(**{key: self.arrays[f"{name}/{key}"] for key in keys if f"{name}/{key}" in self.arrays})

    def mask(self, name: str) -> NDArray[np.bool_]:
        """A mask prompt by its name in the scenarios: (height, width)."""
        mask: NDArray[np.bool_] = self.arrays[f"masks/{name}"]
        return mask

    def encoder(self, size: str) -> list[NDArray[np.float32]]:
        """Frame 0's feature pyramid, finest level first: every 8th channel, 4th row and 4th column."""
        return [self.arrays[f"encoder/{size}/level{level}"] for level in range(3)]

    def steps(self) -> Iterator[tuple[str, int]]:
        """Every recorded step as (scenario, number)."""
        for scenario in self.plan["scenarios"]:
            yield from ((scenario["name"], number) for number in range(len(scenario["steps"])))


def relative_difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """max|ours - theirs| / max|theirs|."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
