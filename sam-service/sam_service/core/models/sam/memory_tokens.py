"""Selected memories as tokens with positions, for the memory attention.

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

from sam_service.core.memory.bank import FrameMemory
from sam_service.core.memory.selection import MemoryLayout, Selection

# What a frame's state holds: the memory map (T, D) bfloat16, and the object pointer (C,) float32.
MAP, POINTER = "features", "pointer"
_sine_of: Callable[..., Tensor] = get_1d_sine_pe


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """One map to attend to. row: in the temporal encoding. tracked: the frame that it is of, None if that is a conditioning
    one. newest: whether it is of the last frame before the one that attends."""

    row: int
    memory: FrameMemory
    tracked: int | None = None
    newest: bool = False


def maps_of(selection: Selection, layout: MemoryLayout) -> list[MemoryMap]:
    """The maps of a selection in the order of their tokens: conditioning frames, then tracked ones, the oldest first."""
    return [MemoryMap(layout.tracked, memory) for memory in selection.conditioning.values()] + [
        MemoryMap(found.distance - 1, found.memory, found.frame_index, found.distance == 1) for found in selection.tracked]


class MemoryTokens:
    """Lays selected memories out, for one model and input size."""

    def __init__(self, model: Sam2VideoModel, layout: MemoryLayout, device: torch.device) -> None:
        self._model = model
        self._layout = layout
        self._device = device
        self._map_positions = self.map_positions()

    def map_positions(self) -> Tensor:
        """Positions (T, D) of a map's tokens."""
        config: Any = self._model.config
        return sine_positions(self._model.mem_dim, config.image_size // 16, self._device)

    def pointer_positions(self, distances: Tensor, num_frames: int) -> Tensor:
        """Positions (n, D) of pointers, by how many frames they lie before the frame."""
        sine = _sine_of(distances / max(1, self._layout.pointers_in(num_frames) - 1), dim=self._model.hidden_dim)
        encoded: Tensor = self._model.temporal_positional_encoding_projection_layer(sine)
        return encoded

    def lay_out(self, selection: Selection, num_frames: int) -> tuple[Tensor, Tensor, int]:
        """Memory tokens (K, D), their positions (K, D), and how many of the last ones are pointers."""
        model, device = self._model, self._device
        temporal = model.memory_temporal_positional_encoding[:, 0]
        maps = maps_of(selection, self._layout)
        tokens = [found.memory.state[MAP].to(device).float() for found in maps]
        positions = [self._map_positions + temporal[found.row] for found in maps]
        if not selection.pointers:
            return torch.cat(tokens), torch.cat(positions), 0
        distances = torch.tensor([float(distance) for distance, _ in selection.pointers], device=device)
        encoded = self.pointer_positions(distances, num_frames)
        stacked = torch.stack([memory.state[POINTER].to(device) for _, memory in selection.pointers])
        split = stacked.shape[1] // model.mem_dim
        tokens.append(stacked.reshape(-1, model.mem_dim))
        positions.append(encoded.repeat_interleave(split, dim=0))
        return torch.cat(tokens), torch.cat(positions), len(selection.pointers) * split


def sine_positions(width: int, side: int, device: torch.device) -> Tensor:
    """The library's sine encoding of a side x side map, flattened to (side², width)."""
    encoding = Sam2VideoPositionEmbeddingSine(num_position_features=width // 2, normalize=True)
    positions: Tensor = encoding(torch.Size((1, width, side, side)), device, torch.float32)
    return positions[0].flatten(1).T.contiguous()
