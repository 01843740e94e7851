"""EdgeTAM's memory: maps condensed to a few tokens by a perceiver, and what the memory attention makes of those.

B: objects. h = w: side of a map in cells. C: hidden width. D: width of a memory token. L: latent tokens, which belong to no
place. G: side of the grid of windows. A map has L + G² tokens, the latent ones first.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoPerceiverResampler

from sam_service.core.models.sam.memory_attention import MemoryAttention, Projections, turned
from sam_service.core.models.sam.memory_tokens import MemoryTokens, sine_positions


def condense(perceiver: EdgeTamVideoPerceiverResampler, maps: Tensor, positions: Tensor) -> Tensor:
    """Memory maps (B, D, h, w) as (B, L + G², D). positions: (h · w, D) of a map's cells.

    The library's own forward pass takes one object only.
    """
    batch, width, side, _ = maps.shape
    cells = maps.flatten(2).transpose(1, 2)
    places = positions.expand(batch, -1, -1)
    latents = perceiver.latents_1d.expand(batch, -1, -1)
    for layer in perceiver.layers:
        latents = layer(latents, cells, places)
    grid = math.isqrt(perceiver.num_latents_2d)
    window = side // grid
    windows = maps.reshape(batch, width, grid, window, grid, window).permute(0, 2, 4, 3, 5, 1)
    windows = windows.reshape(batch * grid * grid, window * window, width)
    local = perceiver.latents_2d.expand(batch, -1, -1).reshape(-1, 1, width)
    for layer in perceiver.layers:
        local = layer(local, windows, None)
    return torch.cat([perceiver.layer_norm(latents), perceiver.layer_norm(local.reshape(batch, grid * grid, width))], dim=1)


class CondensedTokens(MemoryTokens):
    """Lays condensed memories out."""

    def map_positions(self) -> Tensor:
        """(L + G², D): none for the latent tokens, those of the grid's places for the others."""
        model: Any = self._model
        perceiver = model.spatial_perceiver
        places = sine_positions(model.mem_dim, math.isqrt(perceiver.num_latents_2d), self._device)
        return torch.cat([places.new_zeros(perceiver.num_latents_1d, model.mem_dim), places])

    def pointer_positions(self, distances: Tensor, num_frames: int) -> Tensor:
        """(n, D): none, unless the checkpoint has a temporal code for pointers."""
        if self._model.config.enable_temporal_pos_encoding_for_object_pointers:
            return super().pointer_positions(distances, num_frames)
        return distances.new_zeros(len(distances), self._model.mem_dim)


class CondensedAttention(MemoryAttention):
    """Memory attention over condensed maps: of a map's keys only those that belong to a place are rotated."""

    def __init__(self, module: Any, tokens: int) -> None:
        """tokens: of one condensed map."""
        super().__init__(module)
        cos, sin = module.rotary_emb(torch.zeros(1, device=module.position_ids_k.device), module.position_ids_k)
        self._key_cos: Tensor = cos[0, :, 0::2].contiguous()
        self._key_sin: Tensor = sin[0, :, 0::2].contiguous()
        self._tokens = tokens

    def feed_forward(self, layer: Any) -> tuple[nn.Linear, nn.Module, nn.Linear]:
        """A layer's feed-forward: a linear layer, an activation, a linear layer."""
        return layer.mlp.up_proj, layer.mlp.act_fn, layer.mlp.down_proj

    def keys(self, projections: Projections, tokens: Tensor, num_pointer_tokens: int) -> Tensor:
        """Keys (B, K, C) of memory tokens (B, K, D)."""
        key = projections.key(tokens)
        spatial = key.shape[1] - num_pointer_tokens
        maps = key[:, :spatial].reshape(len(key), -1, self._tokens, key.shape[-1])
        latent = self._tokens - len(self._key_cos)
        placed = turned(maps[:, :, latent:], self._key_cos, self._key_sin)
        maps = torch.cat([maps[:, :, :latent], placed], dim=2)
        return torch.cat([maps.reshape(len(key), spatial, -1), key[:, spatial:]], dim=1)
