"""The session engine: one step for one frame. It decides what is remembered, and knows nothing of the network's insides.

Follows Meta's video predictor (SAM 2, Ravi et al., 2024; `sam2` 1.1.0). It differs on purpose in two things:

- `corrections_condition`: a frame that is prompted after it was tracked becomes a conditioning frame, so that the correction
  is kept by the next propagation. Meta's predictor has the same option and leaves it off, and then forgets such a click.
- Memory is bounded (`memory/bank.py`): old frames live on disk. Beyond the spill's budget a prompt in the middle of a
  clip sees the conditioning frames and no neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sam_service.core.device import DevicePolicy, wait_for
from sam_service.core.features import FeatureCache
from sam_service.core.frames import FrameSource
from sam_service.core.keyframes import Keyframes
from sam_service.core.memory.bank import FrameMemory, MemoryBank, ObjectMemory
from sam_service.core.memory.selection import Selection, select
from sam_service.core.models.family import Network, Step
from sam_service.core.prompts import MaskPrompt, PointPrompt, Prompt
from sam_service.errors import InvalidMask, InvalidPrompt
from sam_service.telemetry import Telemetry

DEFAULT_CACHE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class ObjectOutput:
    """The answer for one object on one frame, on the host.

    logits: (s, s) float32, a mask where positive. score: predicted IoU, 0 to 1. object_score: probability of presence.
    """

    object_id: int
    frame_index: int
    logits: NDArray[np.float32]
    score: float
    object_score: float


class VideoPredictor:
    """Holds a network and nothing of any session; a session's state is its `MemoryBank`. Not thread-safe: one owner."""

    def __init__(self, network: Network, policy: DevicePolicy, *, features: FeatureCache | None = None,
                 corrections_condition: bool = True, track_every: int = 1, quantized: bool = False,
                 telemetry: Telemetry | None = None) -> None:
        """network: prepared for `policy`. track_every: tracked frames that are no multiples of it are left to optical flow.
        quantized: whether layers of the network run in INT8."""
        self.network = network
        self.quantized = quantized
        self._policy = policy
        self._telemetry = telemetry or Telemetry()
        self._cache = features if features is not None else FeatureCache(DEFAULT_CACHE_BYTES)
        self._corrections_condition = corrections_condition
        self._every = track_every
        self._keyframes = Keyframes(track_every, network.interpolated) if track_every > 1 else None

    def at(self, image_size: int) -> VideoPredictor:
        """The same at another input size. Weights and cached features are shared."""
        return VideoPredictor(self.network.at(image_size), self._policy, features=self._cache,
                              corrections_condition=self._corrections_condition, track_every=self._every,
                              quantized=self.quantized, telemetry=self._telemetry)

    def encode(self, frame: FrameSource) -> None:
        """Encode a frame and wait for the device; nothing is kept. For measuring."""
        with torch.inference_mode(), self._policy.context():
            self.network.encode(frame.pixels())
            self._policy.synchronize()

    def step(self, bank: MemoryBank, frame: FrameSource, *, prompts: Mapping[int, Prompt] | None = None,
             track: Sequence[int] = (), reverse: bool = False, num_frames: int) -> list[ObjectOutput]:
        """Do everything for one frame: answer `prompts` (by object id), carry on the objects in `track`.

        `num_frames` is the length of the clip; SAM 2 scales the pointers' temporal encoding with it below 16 frames.
        Returns one output for each prompted and each tracked object, in that order. A prompted object is not also tracked;
        one in `track` that the bank does not know, or that has no prompt, is passed over. Raises InvalidMask, and InvalidPrompt
        for a mask prompt that is too small for the network's resolution.
        """
        with torch.inference_mode(), self._policy.context():
            memories = {}
            if prompts:
                step = self._step(bank.key, frame, num_frames)
                memories = {object_id: self._answer(bank.object(object_id), step, prompt)
                            for object_id, prompt in prompts.items()}
            if track:
                bank.commit()
                objects = [memory for object_id in track if (memory := bank.objects.get(object_id)) is not None
                           and memory.conditioning and object_id not in memories]
                memories |= self._go_on(bank.key, objects, frame, reverse, num_frames)
            outputs = [_to_host(object_id, frame.index, memory) for object_id, memory in memories.items()]
            self._policy.synchronize()
        return outputs

    def _step(self, key: str, frame: FrameSource, num_frames: int) -> Step:
        """The frame with its features, from the cache or computed."""
        entry = (key, frame.index, self.network.image_size)
        features = self._cache.get(entry, self._policy.device)
        if features is None:
            pixels = frame.pixels()
            with self._telemetry.stage("image"):
                features = self.network.encode(pixels)
            self._cache.put(entry, features)
        return Step(key, frame, num_frames, features)

    def _answer(self, memory: ObjectMemory, step: Step, prompt: Prompt) -> FrameMemory:
        """Answer a prompt, as a new start where the frame was not tracked and as a correction where it was.

        A prompt that was answered before a crash is not answered again: a correction would correct its own answer.
        """
        index = step.frame.index
        earlier = memory.latest(index)
        if earlier is not None and prompt.sequence and earlier.sequence == prompt.sequence:
            return earlier
        reverse = memory.directions.get(index)
        selection = None
        if reverse is not None and isinstance(prompt, PointPrompt):
            selection = self._select(memory, step, reverse)
        with self._telemetry.stage("mask"):
            [answer] = landed([self.network.answer(step, prompt, earlier, selection)])
        if isinstance(prompt, MaskPrompt) and prompt.mask.any() and not (answer.logits > 0).any():
            rows, columns = answer.logits.shape
            raise InvalidPrompt(f"the mask is too small to be tracked: of the {columns} x {rows} cells that the model tells "
                                "apart in a frame it fills none; choose a larger image_size", field="mask")
        answer = replace(answer, reverse=reverse, sequence=prompt.sequence)
        memory.stage(index, answer, conditioning=reverse is None or self._corrections_condition)
        return answer

    def _go_on(self, key: str, objects: Sequence[ObjectMemory], frame: FrameSource, reverse: bool,
               num_frames: int) -> dict[int, FrameMemory]:
        """Carry objects on to a frame, by optical flow between keyframes and else by the network. Objects that were prompted
        there keep that answer."""
        found = {} if self._keyframes is None else self._keyframes.carry(key, frame, objects, reverse=reverse)
        for memory in objects:
            if memory.object_id in found:
                memory.add_tracked(frame.index, found[memory.object_id])
        rest = [memory for memory in objects if memory.object_id not in found]
        if rest:
            found |= self._track(rest, self._step(key, frame, num_frames), reverse)
        for memory in objects:
            memory.mark_passed(frame.index, reverse=reverse)
        return {memory.object_id: found[memory.object_id] for memory in objects}

    def _track(self, objects: Sequence[ObjectMemory], step: Step, reverse: bool) -> dict[int, FrameMemory]:
        """Carry objects on to a frame by the network."""
        index = step.frame.index
        found = {memory.object_id: memory.conditioning[index] for memory in objects if index in memory.conditioning}
        rest = [memory for memory in objects if index not in memory.conditioning]
        if not rest:
            return found
        selections = [self._select(memory, step, reverse) for memory in rest]
        with self._telemetry.stage("mask"):
            answers = self.network.track(step, selections)
            entries = landed([answer.memory for answer in answers])
        for memory, entry in zip(rest, entries, strict=True):
            found[memory.object_id] = replace(entry, reverse=reverse)
        for memory, answer in zip(rest, answers, strict=True):
            for earlier, tensors in answer.notes.items():
                memory.annotate(earlier, tensors)
            memory.add_tracked(index, found[memory.object_id])
        return found

    def _select(self, memory: ObjectMemory, step: Step, reverse: bool) -> Selection:
        return select(memory, step.frame.index, self.network.layout, reverse=reverse, num_frames=step.num_frames,
                      every=self._every)


def landed(memories: Sequence[FrameMemory]) -> list[FrameMemory]:
    """The same memories with their logits on the host, moved there in one transfer for all of them.

    Keeps a broken answer out of the memory, where it would spoil every frame after it: raises InvalidMask.
    """
    parts = [{"logits": memory.logits, **memory.state} for memory in memories]
    device = memories[0].logits.device
    finite = torch.stack([torch.isfinite(tensor).all().to(device) for named in parts for tensor in named.values()])
    rows = [memory.logits for memory in memories]
    if device.type != "cpu":
        wait_for(device)
        flat = torch.cat([*(row.flatten() for row in rows), finite.float()]).cpu()
        *rows, finite = flat.split([*(row.numel() for row in rows), len(finite)])
        rows = [row.reshape(memory.logits.shape) for row, memory in zip(rows, memories, strict=True)]
    whole = iter(finite.tolist())
    for memory, named in zip(memories, parts, strict=True):
        broken = [name for name in named if not next(whole)]
        if not (math.isfinite(memory.iou) and math.isfinite(memory.object_score)):
            broken.append("scores")
        if broken:
            raise InvalidMask(f"the network's {broken[0].replace('_', ' ')} on this frame are not finite numbers")
    return [replace(memory, logits=row) for memory, row in zip(memories, rows, strict=True)]


def _to_host(object_id: int, frame_index: int, memory: FrameMemory) -> ObjectOutput:
    return ObjectOutput(object_id, frame_index, memory.logits.numpy(), memory.iou,
                        float(torch.tensor(memory.object_score).sigmoid()))
