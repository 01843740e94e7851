"""Which memories a frame attends to, and those memories as tokens with positions.

S: side of the model's input. T: tokens of one map, (S/16)². C: hidden width. D: width of a memory token. K: memory tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoPositionEmbeddingSine, get_1d_sine_pe

from sam_service.core.memory_bank import FrameMemory, ObjectMemory

_sine_of: Callable[..., Tensor] = get_1d_sine_pe


@dataclass(frozen=True, slots=True)
class Map:
    """A memory map. index: its row in the temporal encoding. tracked: its frame, None for a conditioning one, newest: whether
    that is the last frame before the one that attends."""

    index: int
    entry: FrameMemory
    tracked: int | None = None
    newest: bool = False


@dataclass(frozen=True, slots=True)
class Near:
    """The memories that one object's frame attends to: maps, and pointers by signed distance in frames (in runs of the network
    where it does not run on each)."""

    maps: list[Map]
    pointers: list[tuple[float, FrameMemory]]


class Recall:
    """Selects memories and lays them out, for one model and input size."""

    def __init__(self, model: Sam2VideoModel, device: torch.device, every: int = 1) -> None:
        """every: the network runs on multiples of this; the frames between leave no memory (`carry.py`)."""
        self._every = every
        self._model = model
        self._device = device
        config: Any = model.config
        self._config = config
        self._memory_positions = sine_positions(model.mem_dim, self._config.image_size // 16, device)

    def near(self, memory: ObjectMemory, frame_index: int, reverse: bool, num_frames: int) -> Near:
        """Select the memories that a frame attends to: all conditioning frames and the last tracked ones in its direction."""
        step = 1 if reverse else -1
        last = self._config.num_maskmem - 1
        near = Near([Map(last, entry) for entry in memory.conditioning.values()],
                    [((at - frame_index) * step / self._every, entry) for at, entry in memory.conditioning.items()
                     if (at - frame_index) * step >= 0])
        for distance in range(last, 0, -1):
            at = self._before(frame_index, step, distance)
            entry = memory.tracked(at)
            if entry is not None and len(entry.features):
                near.maps.append(Map(distance - 1, entry, at, distance == 1))
        for distance in range(1, self._num_pointers(num_frames)):
            entry = memory.tracked(self._before(frame_index, step, distance))
            if entry is not None and len(entry.features):
                near.pointers.append((distance, entry))
        return near

    def _before(self, frame_index: int, step: int, distance: int) -> int:
        """The `distance`-th frame on the side of `step` (-1 or 1) that the network runs on."""
        nearest = (frame_index + step) * -step // self._every * -step
        return (nearest + step * (distance - 1)) * self._every

    def _num_pointers(self, num_frames: int) -> int:
        return min(num_frames, int(self._config.max_object_pointers_in_encoder))

    def tokens(self, near: Near, num_frames: int) -> tuple[Tensor, Tensor, int]:
        """Memory tokens (K, D), their positions (K, D), and how many of the last ones are pointers."""
        model, device = self._model, self._device
        temporal = model.memory_temporal_positional_encoding[:, 0]
        tokens = [found.entry.features.to(device).float() for found in near.maps]
        positions = [self._memory_positions + temporal[found.index] for found in near.maps]
        if not near.pointers:
            return torch.cat(tokens), torch.cat(positions), 0
        distances = torch.tensor([float(distance) for distance, _ in near.pointers], device=device)
        sine = _sine_of(distances / max(1, self._num_pointers(num_frames) - 1), dim=model.hidden_dim)
        encoded = model.temporal_positional_encoding_projection_layer(sine)
        stacked = torch.stack([entry.pointer for _, entry in near.pointers]).to(device)
        split = stacked.shape[1] // model.mem_dim
        tokens.append(stacked.reshape(-1, model.mem_dim))
        positions.append(encoded.repeat_interleave(split, dim=0))
        return torch.cat(tokens), torch.cat(positions), len(near.pointers) * split


def sine_positions(width: int, side: int, device: torch.device) -> Tensor:
    """The library's sine encoding of a side x side map, flattened to (side², width)."""
    encoding = Sam2VideoPositionEmbeddingSine(num_position_features=width // 2, normalize=True)
    positions: Tensor = encoding(torch.Size((1, width, side, side)), device, torch.float32)
    return positions[0].flatten(1).T.contiguous()
