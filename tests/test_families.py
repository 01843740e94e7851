"""The seam between the session engine and the models: a family of a few lines is served like any other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sam_service.client import SamClient
from sam_service.core.build import build_predictor
from sam_service.core.frames import ClipFrame
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.generations import KeptStep
from sam_service.core.memory.spill import DiskSpill
from sam_service.core.models import registry
from sam_service.core.prompts import PointPrompt
from sam_service.demo_clip import CLICK
from sam_service.local import local_service

from tests import colour_family
from tests.colour_family import ColourNetwork
from tests.support import settings

PACKAGE = Path(__file__).parent.parent / "sam-service" / "sam_service"
OWN_ROOMS = ("core/models/nano/", "core/models/sam2/", "core/models/edgetam/", "core/models/registry.py")


@pytest.fixture
def colour() -> Iterator[str]:
    yield colour_family.register()
    colour_family.forget()


def test_the_whole_flow_runs_on_a_family_of_a_few_lines(colour: str, clip: Path) -> None:
    with local_service(settings(sam2_model_size=colour)) as url, SamClient(url) as client:
        model = client.wait_ready()["model"]
        assert (model["size"], model["label"]) == ("colour", "colour")
        with client.initialize(clip, max_frames=12) as video:
            first = video.add_object(points=[list(CLICK)])
            assert 0 < first.area < 20_000
            frames = list(video.propagate())
            assert len(frames) == 12
            centres = [np.argwhere(frame.masks[1].mask).mean(axis=0) for frame in frames]
            assert np.abs(centres[-1] - centres[0]).max() > 5
            corrected = video.refine(1, points=[[5, 5]], replace=True, frame_idx=3)
            assert corrected.area > first.area


def test_a_prompt_of_the_log_is_answered_once(colour: str, tmp_path: Path) -> None:
    """A correction that a crash cut off after it was answered must not correct its own answer."""
    picture = np.full((128, 128, 3), 60, np.uint8)
    cv2.circle(picture, (60, 60), 25, (220, 160, 50), -1)
    predictor = build_predictor(colour)
    network = cast(ColourNetwork, predictor.network)

    def ask(bank: MemoryBank, prompt: PointPrompt) -> NDArray[np.float32]:
        [output] = predictor.step(bank, ClipFrame(0, (128, 128), lambda _: picture), prompts={1: prompt}, num_frames=1)
        return output.logits

    prompt = PointPrompt(np.array([[60, 60]], np.float32), np.array([1], np.int32), sequence=1)
    first = MemoryBank("a", DiskSpill(tmp_path, 1 << 30))
    answer = ask(first, prompt)
    stored = MemoryBank("b", DiskSpill(tmp_path, 1 << 30, steps=[KeptStep(1, frozenset({1}), undone=False)]))
    stored.restore()
    assert np.array_equal(ask(stored, prompt), answer) and network.answered == 1
    cut_off = MemoryBank("c", DiskSpill(tmp_path, 1 << 30))  # the step was never stored: its memory is gone
    cut_off.restore()
    assert not cut_off.objects
    assert np.array_equal(ask(cut_off, prompt), answer) and network.answered == 2


def test_only_the_registry_imports_a_family() -> None:
    importers = set()
    for path in PACKAGE.rglob("*.py"):
        place = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
            for name in names:
                if (family := re.match(r"sam_service\.core\.models\.(nano|sam2|edgetam)\b", name)) is not None and (
                        f"core/models/{family[1]}/" not in place):
                    importers.add(place)
    assert importers == {"core/models/registry.py"}


def test_no_other_place_names_a_size_or_a_family() -> None:
    named = []
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.js"), *PACKAGE.rglob("*.html")]:
        place = str(path.relative_to(PACKAGE))
        if place.startswith(OWN_ROOMS):
            continue
        text = path.read_text()
        named += [f"{place}: {line.strip()}" for line in text.splitlines() if re.search(r"\bnano\b|is_nano", line, re.I)]
        if path.suffix == ".py":
            named += [f"{place}: {node.value}" for node in ast.walk(ast.parse(text))
                      if isinstance(node, ast.Constant) and node.value in registry.SIZES]
    assert not named
