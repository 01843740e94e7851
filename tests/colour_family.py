"""A family of models without a network: an object is what has the colour of the click. For tests of all around models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from sam_service.core.device import DevicePolicy
from sam_service.core.features import Features
from sam_service.core.frames import Image, resized
from sam_service.core.memory.bank import FrameMemory
from sam_service.core.memory.selection import MemoryLayout, Selection
from sam_service.core.models import registry
from sam_service.core.models.family import Checkpoint, Network, NetworkInfo, Step, Tracked
from sam_service.core.models.sizes import ModelSize
from sam_service.core.prompts import POSITIVE, MaskPrompt, Prompt
from sam_service.core.speedups import Speedups
from torch import Tensor

SIDE, TOLERANCE = 128, 40.0
SIZES = {"colour": ModelSize("colour", "colour", 0.0, SIDE, folder=Path(__file__).parent)}


class ColourNetwork:
    """Pixels within TOLERANCE of an object's colour."""

    layout = MemoryLayout(tracked=1, pointers=1)

    def __init__(self, image_size: int) -> None:
        self.info, self.image_size, self.answered = NetworkInfo("colour", image_size, "tests", 0), image_size, 0

    def prepare(self, policy: DevicePolicy, speedups: Speedups) -> bool:
        return False

    def at(self, image_size: int) -> Network:
        return ColourNetwork(image_size)

    def resize(self, image: Image, image_size: int) -> Image:
        return resized(image, image_size, image_size)

    def encode(self, pixels: Image) -> Features:
        return {"pixels": torch.from_numpy(resized(pixels, len(pixels) // 4, len(pixels) // 4)).float()}

    def answer(self, step: Step, prompt: Prompt, earlier: FrameMemory | None, selection: Selection | None) -> FrameMemory:
        self.answered += 1
        pixels, frame = step.features["pixels"], step.frame
        if isinstance(prompt, MaskPrompt):
            where = torch.from_numpy(resized(prompt.mask.astype(np.float32), *pixels.shape[1::-1]) > 0.5)
            return self._memory(pixels, pixels[where].median(dim=0).values)
        points = prompt.points[prompt.labels == POSITIVE]
        x, y = points[0] if len(points) else prompt.points.mean(axis=0)
        column, row = int(x * pixels.shape[1] / frame.width), int(y * pixels.shape[0] / frame.height)
        return self._memory(pixels, pixels[min(row, len(pixels) - 1), min(column, pixels.shape[1] - 1)])

    def track(self, step: Step, selections: Sequence[Selection]) -> list[Tracked]:
        pixels = step.features["pixels"]
        nearest = [min(one.conditioning.items(), key=lambda item: abs(item[0] - step.frame.index))[1] for one in selections]
        return [Tracked(self._memory(pixels, memory.state["colour"])) for memory in nearest]

    def interpolated(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)

    def _memory(self, pixels: Tensor, colour: Tensor) -> FrameMemory:
        logits = (TOLERANCE - (pixels - colour).abs().amax(dim=-1)) / 10
        score = 10.0 if (logits > 0).any() else -10.0
        return FrameMemory(logits, object_score=score, iou=0.9, state={"colour": colour.clone()})


class ColourFamily:
    """See `Family`."""

    sizes = SIZES

    def load(self, size: str, checkpoint: Checkpoint, image_size: int | None) -> ColourNetwork:
        return ColourNetwork(image_size or SIDE)

    def check_folder(self, size: str, folder: Path) -> None:
        return

    def check_image_size(self, image_size: int) -> None:
        return


FAMILY = ColourFamily()


def register() -> str:
    """Make the family known; returns the name of its size."""
    if "colour" not in registry.SIZES:
        registry.register(__name__, SIZES)
    return "colour"


def forget() -> None:
    """Take the family out of the list again, which other tests compare."""
    registry.SIZES.pop("colour", None)
