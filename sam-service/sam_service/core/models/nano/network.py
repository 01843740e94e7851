"""The embedded model as a network of the engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sam_service.core.device import DevicePolicy, cpu_has_bfloat16
from sam_service.core.features import Features
from sam_service.core.frames import Image, resized
from sam_service.core.memory.bank import FrameMemory
from sam_service.core.memory.selection import MemoryLayout, Selection
from sam_service.core.models.family import NetworkInfo, Step, Tracked
from sam_service.core.models.nano import architecture
from sam_service.core.models.nano.architecture import ABSENT_LOGIT, KEPT_RECENT, Memory, Past
from sam_service.core.models.nano.input_size import input_size
from sam_service.core.models.nano.prompt_maps import LOGIT_LIMIT, Prompts
from sam_service.core.prompts import MaskPrompt, PointPrompt, Prompt
from sam_service.core.speedups import Speedups, speed_up_encoder

logger = logging.getLogger(__name__)

KEY_UNIT = 127.0  # keys are kept as whole numbers of this part of one
KEYS, VALUES = ("k16", "k8"), ("v16", "v8")


class NanoNetwork:
    """See `Network`. image_size: the input has about as many pixels as a square of that side, in the frame's aspect."""

    layout = MemoryLayout(tracked=KEPT_RECENT[0], pointers=1)

    def __init__(self, network: architecture.Network, info: NetworkInfo, image_size: int) -> None:
        """network: on the CPU, in float32, without gradients. `prepare` comes before any other use."""
        self.info = info
        self.image_size = image_size
        self._network = network
        self._device = torch.device("cpu")

    def prepare(self, policy: DevicePolicy, speedups: Speedups) -> bool:
        """See `Network.prepare`. Convolutions compute in bfloat16 where the CPU has it, as they did in training."""
        if speedups.memory_share < 1:
            logger.warning("SAM2_MEMORY_SHARE changes nothing: the embedded model reads a few memories, and those whole")
        self._device = policy.device
        network: nn.Module = self._network.to(policy.device)
        if policy.device.type == "cpu" and cpu_has_bfloat16():
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear | nn.GroupNorm):
                    layer.to(torch.bfloat16)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it, its stubs have not
        return speed_up_encoder(self._network.encoder, policy.device, speedups)

    def at(self, image_size: int) -> NanoNetwork:
        """See `Network.at`."""
        other = NanoNetwork(self._network, self.info, image_size)
        other._device = self._device
        return other

    def resize(self, image: Image, image_size: int) -> Image:
        """See `Network.resize`: (H, W, 3) -> (h, w, 3), about image_size x image_size pixels in the picture's aspect."""
        rows, columns = input_size(image.shape[0], image.shape[1], image_size)
        return resized(image, columns, rows)

    def encode(self, pixels: Image) -> Features:
        """See `Network.encode`."""
        image = torch.from_numpy(pixels).to(self._device).permute(2, 0, 1)[None].float()
        found = self._network.encode(((image - 127) / 128).contiguous(memory_format=torch.channels_last))
        maps = {name: level.contiguous() for name, level in found._asdict().items() if name not in KEYS}
        return maps | {name: (getattr(found, name) * KEY_UNIT).round().to(torch.int8).contiguous() for name in KEYS}

    def answer(self, step: Step, prompt: Prompt, earlier: FrameMemory | None, selection: Selection | None) -> FrameMemory:
        """See `Network.answer`. A mask is its own answer. A box, or a prompt that starts over, says where the object is
        without the memory; anything else corrects the earlier answer on the frame."""
        features = _features(step.features)
        if isinstance(prompt, MaskPrompt):
            there = bool(prompt.mask.any())
            share = resized(prompt.mask.astype(np.float32), features.p4.shape[-1], features.p4.shape[-2])
            if there and share.max() <= 0.5:  # smaller than a cell, and yet there
                share = share * (0.75 / share.max())
            logits = torch.from_numpy(share).to(self._device).clamp(4.5e-5, 1 - 4.5e-5).logit()[None, None]
            return self._memory(step, features, logits, iou=1.0, presence=LOGIT_LIMIT if there else -LOGIT_LIMIT)
        before = readout = None
        if earlier is not None and not prompt.fresh and not prompt.boxed and bool((earlier.logits > 0).any()):
            before = earlier.logits.to(self._device)[None, None]
            readout = None if selection is None else self._network.readout(features, _pasts(selection, self._device))
        decoded = self._network.decode(features, self._prompts(step, prompt), before, readout)
        return self._memory(step, features, decoded.logits, float(decoded.iou.sigmoid()), float(decoded.presence))

    def track(self, step: Step, selections: Sequence[Selection]) -> list[Tracked]:
        """See `Network.track`."""
        features = _features(step.features)
        found = []
        for selection in selections:
            readout = self._network.readout(features, _pasts(selection, self._device))
            decoded = self._network.decode(features, None, None, readout)
            logits = decoded.logits if float(decoded.presence) > 0 else decoded.logits.clamp(max=ABSENT_LOGIT)
            memory = self._memory(step, features, logits, float(decoded.iou.sigmoid()), float(decoded.presence))
            found.append(Tracked(memory))
        return found

    def interpolated(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Network.interpolated`: nothing."""
        return {}

    def _prompts(self, step: Step, prompt: PointPrompt) -> Prompts:
        """A prompt in pixels of the input."""
        rows, columns = step.features["p4"].shape[-2:]
        scale = np.array([4 * columns / step.frame.width, 4 * rows / step.frame.height], np.float32)
        points, labels = prompt.clicks
        if not len(points):
            points, labels = np.zeros((1, 2), np.float32), np.full(1, -1, np.int32)
        box = np.full(4, np.nan, np.float32) if prompt.box is None else prompt.box * np.tile(scale, 2)
        tensors = (torch.from_numpy(np.asarray(part))[None].to(self._device) for part in (points * scale, labels, box))
        return Prompts(*tensors)

    def _memory(self, step: Step, features: architecture.Features, logits: Tensor, iou: float, presence: float) -> FrameMemory:
        """The frame's entry in the memory bank: the object's mask, and what later frames are matched with."""
        memory = self._network.memory_of(features, logits)
        state = {name: step.features[name] for name in KEYS}
        state |= {name: getattr(memory, name).half().contiguous() for name in VALUES}
        return FrameMemory(logits=logits[0, 0].float().contiguous(), object_score=presence, iou=iou, state=state)


def _features(stored: Features) -> architecture.Features:
    """Features as the network takes them."""
    maps = {name: value.float() / KEY_UNIT if name in KEYS else value.contiguous(memory_format=torch.channels_last)
            for name, value in stored.items()}
    return architecture.Features(**maps)


def _pasts(selection: Selection, device: torch.device) -> list[Past]:
    """The memories that a frame sees. A prompted frame that was passed just now is a recent one, too."""
    way = 1 if selection.reverse else -1
    pasts = []
    for at, memory in selection.conditioning.items():
        pasts.append(Past(_restored(memory, device), True, abs(at - selection.frame_index)))
        passed = (at - selection.frame_index) * way
        if 0 < passed <= KEPT_RECENT[0]:
            pasts.append(pasts[-1]._replace(prompted=False, distance=passed))
    pasts += [Past(_restored(tracked.memory, device), False, tracked.distance) for tracked in selection.tracked]
    return pasts


def _restored(memory: FrameMemory, device: torch.device) -> Memory:
    """A stored memory as the network reads it."""
    scale = {name: KEY_UNIT if name in KEYS else 1.0 for name in Memory._fields}
    return Memory(**{name: memory.state[name].to(device).float() / by for name, by in scale.items()})

