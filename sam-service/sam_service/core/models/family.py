"""The seam between the session engine and the models: what a family of models, and a network of it, have to offer.

The engine (`predictor.py`) decides which frames an object remembers, in which order work is done and what is kept where. A
network turns pixels into features, and features with memories into masks. Neither knows the other's insides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from sam_service.core.device import DevicePolicy
from sam_service.core.features import Features
from sam_service.core.frames import FrameSource, Image
from sam_service.core.memory.bank import FrameMemory
from sam_service.core.memory.selection import MemoryLayout, Selection
from sam_service.core.models.sizes import ModelSize
from sam_service.core.prompts import Prompt
from sam_service.core.speedups import Speedups


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Which weights are asked for.

    place: Meta's `.pt`, a folder, `owner/name` on the hub, or None for the usual source of the size. revision: a commit, tag
    or branch on the hub. sha256: what the weights' file has to have. offline: ask no network. progress: is given a line of text
    for each thing that takes time.
    """

    place: Path | str | None = None
    revision: str | None = None
    sha256: str | None = None
    cache_dir: Path | str | None = None
    offline: bool = False
    progress: Callable[[str], None] = field(default=lambda _text: None)


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """What a loaded network is. image_size: side in pixels of its usual input. source: where its weights came from."""

    size: str
    image_size: int
    source: str
    parameters: int


@dataclass(frozen=True, slots=True)
class Step:
    """One frame in work.

    key: the session. num_frames: the clip's length, as far as it matters (`MemoryLayout`). features: of the frame.
    """

    key: str
    frame: FrameSource
    num_frames: int
    features: Features


@dataclass(frozen=True, slots=True)
class Tracked:
    """The answer for one tracked object. notes: tensors to keep with earlier tracked frames of the object, by frame."""

    memory: FrameMemory
    notes: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)


class Network(Protocol):
    """A network at one input size, with its weights. Used by one thread, except where it says otherwise."""

    info: NetworkInfo
    image_size: int
    layout: MemoryLayout

    def prepare(self, policy: DevicePolicy, speedups: Speedups) -> bool:
        """Move to the device and make fast, once; returns whether layers were quantized. Raises ModelUnavailable for a speed-up
        that this family or device does not have."""

    def at(self, image_size: int) -> Network:
        """The same network at another input size, ready to run. All weights are shared."""

    def resize(self, image: Image, image_size: int) -> Image:
        """A frame (H, W, 3) as the network's input of that size. Any thread may call it."""

    def encode(self, pixels: Image) -> Features:
        """Image features of an input that `resize` made."""

    def answer(self, step: Step, prompt: Prompt, earlier: FrameMemory | None, selection: Selection | None) -> FrameMemory:
        """Answer a prompt. earlier: the last answer on the frame, if any. selection: the memories that a frame sees which was
        tracked before; None where the prompt is a new start, and for masks."""

    def track(self, step: Step, selections: Sequence[Selection]) -> list[Tracked]:
        """Carry objects on to a frame, each with the memories that are selected for it; one answer for each, in order."""

    def interpolated(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What of a frame's state still holds on a neighbouring frame that optical flow carried its mask to."""


class Family(Protocol):
    """A family of models: networks of one architecture in several sizes."""

    sizes: Mapping[str, ModelSize]

    def load(self, size: str, checkpoint: Checkpoint, image_size: int | None) -> Network:
        """Load a size on the CPU in float32. Raises InvalidInput, ModelUnavailable, StorageFull."""

    def check_folder(self, size: str, folder: Path) -> None:
        """Raise ModelUnavailable unless a folder holds the weights of a size. Reads names and shapes only."""

    def check_image_size(self, image_size: int) -> None:
        """Raise InvalidInput, for the field `image_size`, unless the networks of this family run at that input size."""
