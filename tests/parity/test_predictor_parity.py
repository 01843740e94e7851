"""The engine against Meta's predictor on identical weights: every recorded scenario, logits within 1e-4 relative."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from recorded import EDGETAM_PLAN, FOLDER, PLAN, Answer, Recording, relative_difference
from sam_service.core.device import choose_device
from sam_service.core.frames import ClipFrame
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.spill import DiskSpill
from sam_service.core.models.sam.network import SamNetwork
from sam_service.core.predictor import ObjectOutput, VideoPredictor
from sam_service.core.prompts import MaskPrompt, PointPrompt, Prompt

FRAMES = Path(__file__).parent / "reference" / "frames"
TOLERANCE = 1e-4
NUM_FRAMES: int = PLAN["video"]["frames"]


class Session:
    """Plays the steps of one scenario as Meta's predictor took them."""

    def __init__(self, network: SamNetwork, *, corrections_condition: bool, spill: DiskSpill | None) -> None:
        self.predictor = VideoPredictor(network, choose_device("cpu"), corrections_condition=corrections_condition)
        self.bank = MemoryBank("parity", spill)
        self.points: dict[tuple[int, int], PointPrompt] = {}

    def frame(self, index: int) -> ClipFrame:
        video, network = PLAN["video"], self.predictor.network
        files = sorted(FRAMES.iterdir())
        return ClipFrame(index, (video["width"], video["height"]), lambda at: np.asarray(Image.open(files[at]).convert("RGB")),
                         lambda image: network.resize(image, network.image_size))

    def prompt(self, step: dict[str, Any], recording: Recording) -> list[ObjectOutput]:
        prompt = self._prompt(step, recording)
        return self.predictor.step(self.bank, self.frame(step["frame"]), prompts={step["object"]: prompt},
                                   num_frames=NUM_FRAMES)

    def propagate(self, index: int, reverse: bool) -> list[ObjectOutput]:
        return self.predictor.step(self.bank, self.frame(index), track=list(self.bank.objects), reverse=reverse,
                                   num_frames=NUM_FRAMES)

    def _prompt(self, step: dict[str, Any], recording: Recording) -> Prompt:
        if step["do"] == "mask":
            return MaskPrompt(recording.mask(step["mask"]))
        points = np.array(step.get("points", []), np.float32).reshape(-1, 2)
        labels = np.array(step.get("labels", []), np.int32)
        if "box" in step:
            points = np.concatenate([np.array(step["box"], np.float32).reshape(2, 2), points])
            labels = np.concatenate([np.array([2, 3], np.int32), labels])
        key = (step["object"], step["frame"])
        if not step.get("clear_old_points", True) and key in self.points:
            points = np.concatenate([self.points[key].points, points])
            labels = np.concatenate([self.points[key].labels, labels])
        self.points[key] = PointPrompt(points, labels)
        return self.points[key]


def compare(outputs: list[ObjectOutput], answer: Answer, at: int, where: str) -> None:
    for column, output in enumerate(outputs):
        expected = answer.logits[at, column]
        difference = relative_difference(output.logits, expected)
        assert difference < TOLERANCE, f"{where}, frame {output.frame_index}, object {output.object_id}: {difference:.1e}"
        logit = np.log(output.object_score / (1 - output.object_score))
        assert logit == pytest.approx(answer.scores[at, column], abs=1e-2, rel=1e-3)


def cases(plan: dict[str, Any]) -> list[Any]:
    """Each scenario with memories on disk, and the first few without."""
    return [pytest.param(scenario, spilled, id=f"{scenario['name']}-{'spill' if spilled else 'window'}")
            for number, scenario in enumerate(plan["scenarios"]) for spilled in ([False, True] if number < 4 else [True])]


@pytest.mark.parametrize(("scenario", "spilled"), cases(PLAN))
def test_scenario(scenario: dict[str, Any], spilled: bool, seeded_network: SamNetwork, recording: Recording,
                  tmp_path: Path) -> None:
    play(scenario, spilled, seeded_network, recording, tmp_path)


@pytest.fixture(scope="module")
def edgetam_recording() -> Recording:
    return Recording(FOLDER / "edgetam-256.npz", EDGETAM_PLAN)


@pytest.mark.parametrize(("scenario", "spilled"), cases(EDGETAM_PLAN))
def test_edgetam_scenario(scenario: dict[str, Any], spilled: bool, seeded_edgetam: SamNetwork, edgetam_recording: Recording,
                          tmp_path: Path) -> None:
    play(scenario, spilled, seeded_edgetam, edgetam_recording, tmp_path)


def play(scenario: dict[str, Any], spilled: bool, network: SamNetwork, recording: Recording, folder: Path) -> None:
    session = Session(network, corrections_condition=scenario.get("all_corrections_condition", False),
                      spill=DiskSpill(folder, 1 << 30) if spilled else None)
    for number, step in enumerate(scenario["steps"]):
        answer = recording.answer(scenario["name"], number)
        where = f"{scenario['name']} step {number}"
        if step["do"] == "propagate":
            for at, index in enumerate(answer.frames):
                compare(session.propagate(int(index), step.get("reverse", False)), answer, at, where)
        else:
            compare(session.prompt(step, recording), answer, 0, where)
