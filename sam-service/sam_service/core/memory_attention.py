"""Memory attention: a frame's features look at what the memory bank holds (SAM 2, Ravi et al., 2024, section 4).

Reads the weights of transformers' `Sam2VideoMemoryAttention` and gives what it gives, up to rounding, with less work:

- The rows of a softmax sum to one, so the value projection is applied after the weighted sum: values stay D = 64 wide
  instead of C = 256.
- The scores are never held whole: tiles with a running maximum (online softmax; Milakov and Gimelshein, 2018; Rabe and
  Staats, 2021), so that a full bank at 1024 px needs no 4096 x 28 736 matrix.
- Rotations are real-valued, and the first layer's self-attention, which sees only the image, is done once for all objects.

It can also attend to a part of the memory tokens (`salience.py`), another part for each layer.

B: objects. Q: tokens of the frame (H/16 · W/16). K: memory tokens. C: hidden width. D: width of a memory token.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoMemoryAttention,
    Sam2VideoMemoryAttentionLayer,
    Sam2VideoRoPEAttention,
)

from sam_service.core import onednn

TILE = 1024


class Look(Protocol):
    """A choice of memory tokens. keep: for each layer (B, K'), numbers of tokens out of K, pointers last."""

    keep: list[Tensor]

    def watch(self, depth: int, query: Tensor, key: Tensor) -> None:
        """Told of each layer's rotated and scaled queries (B, Q, C) and its keys (B, K', C)."""


class MemoryAttention:
    """The forward pass over the library's modules. One instance for a model; holds no state of any session."""

    def __init__(self, module: Sam2VideoMemoryAttention) -> None:
        if module.config.memory_attention_num_attention_heads != 1:
            raise ValueError("memory attention with more than one head is not supported")
        self._layers = cast(list[Sam2VideoMemoryAttentionLayer], list(module.layers))
        self._norm: nn.LayerNorm = module.layer_norm
        cos, sin = module.rotary_emb(torch.zeros(1), module.position_ids)
        self._cos: Tensor = cos[0, :, 0::2].contiguous()
        self._sin: Tensor = sin[0, :, 0::2].contiguous()

    def __call__(self, features: Tensor, image_positions: Tensor, memory: Tensor, positions: Tensor,
                 num_pointer_tokens: int, look: Look | None = None) -> Tensor:
        """Condition a frame on the memories of B objects.

        features: (Q, C), image_positions: (Q, C). memory: (B, K, D), positions: (B, K, D), the last `num_pointer_tokens`
        tokens being object pointers, which are not rotated. look: what to attend to, everything if absent. Returns (B, Q, C).
        """
        output = (features + 0.1 * image_positions)[None]
        keys = memory + positions
        for depth, layer in enumerate(self._layers):
            output = output + self._self_attention(layer.self_attn, layer.layer_norm1(output))
            output = output.expand(len(memory), -1, -1)
            output = output + self._cross_attention(
                layer.cross_attn_image, layer.layer_norm2(output), keys, memory, num_pointer_tokens, look, depth)
            output = output + layer.linear2(layer.activation(layer.linear1(layer.layer_norm3(output))))
        normed: Tensor = self._norm(output)
        return normed

    def _self_attention(self, attention: Sam2VideoRoPEAttention, x: Tensor) -> Tensor:
        query, key = self._rotate(attention.q_proj(x)), self._rotate(attention.k_proj(x))
        if onednn.applies(x):
            mixed = attend(query * attention.scaling, key, attention.v_proj(x))
        else:
            mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], attention.v_proj(x)[:, None])[:, 0]
        projected: Tensor = attention.o_proj(mixed)
        return projected

    def _cross_attention(self, attention: Sam2VideoRoPEAttention, x: Tensor, keys: Tensor, memory: Tensor,
                         num_pointer_tokens: int, look: Look | None, depth: int) -> Tensor:
        query = self._rotate(attention.q_proj(x)) * attention.scaling
        spatial = keys.shape[1] - num_pointer_tokens
        if look is None:
            key = attention.k_proj(keys)
            key = torch.cat([self._rotate(key[:, :spatial]), key[:, spatial:]], dim=1)
        else:
            kept = look.keep[depth]  # (B, K')
            rows = torch.arange(len(kept), device=kept.device)[:, None]
            memory, key = memory[rows, kept], attention.k_proj(keys[rows, kept])
            turning = kept.shape[1] - num_pointer_tokens
            key = torch.cat([self._rotate_at(key[:, :turning], kept[:, :turning]), key[:, turning:]], dim=1)
            look.watch(depth, query, key)
        if x.device.type == "cpu":
            mixed = attention.v_proj(attend(query, key, memory))
        else:  # a fused kernel keeps the scores in float32 under mixed precision, which tiles of matrix products do not
            value = attention.v_proj(memory)
            mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
        projected: Tensor = attention.o_proj(mixed)
        return projected

    def _rotate(self, x: Tensor) -> Tensor:
        """Rotary positions for (B, n·Q, C): each of the n maps is rotated by the same table."""
        batch, tokens, width = x.shape
        pairs = x.reshape(batch, -1, len(self._cos), width // 2, 2)
        even, odd = pairs[..., 0], pairs[..., 1]
        rotated = torch.stack((even * self._cos - odd * self._sin, even * self._sin + odd * self._cos), dim=-1)
        return rotated.reshape(batch, tokens, width)


    def _rotate_at(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Rotary positions for (B, K', C), which are the tokens (B, K') of a row of maps."""
        places = tokens % len(self._cos)
        cos, sin = self._cos[places], self._sin[places]
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def attend(query: Tensor, key: Tensor, value: Tensor, tile: int = TILE) -> Tensor:
    """softmax(query · keyᵀ) · value, in tiles. query: (B, Q, C), already scaled; key: (B, K, C); value: (B, K, D)."""
    if query.shape[1] <= tile and key.shape[1] <= 4 * tile:
        return torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value
    if onednn.applies(query):
        return torch.stack([_attend_fast(*one, tile) for one in zip(query, key, value, strict=True)])
    return torch.cat([_attend_rows(rows, key, value, tile) for rows in torch.split(query, tile, dim=1)], dim=1)


def _attend_fast(query: Tensor, key: Tensor, value: Tensor, tile: int) -> Tensor:
    """The same for one object, (Q, C), (K, C) and (K, D), by oneDNN."""
    pairs = list(zip(key.split(tile), (part.T.contiguous() for part in value.split(tile)), strict=True))
    answers = []
    for rows in query.split(2 * tile):
        highest = rows.new_full((len(rows), 1), -torch.inf)
        total, mixed = rows.new_zeros(len(rows), 1), rows.new_zeros(len(rows), value.shape[1])
        for keys, values in pairs:
            scores = onednn.product(rows, keys)
            new_highest = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
            weights = scores.sub_(new_highest).exp_()
            scale = torch.exp(highest - new_highest)
            total = total.mul_(scale).add_(weights.sum(dim=-1, keepdim=True))
            mixed = mixed.mul_(scale).add_(onednn.product(weights, values))
            highest = new_highest
        answers.append(mixed / total)
    return torch.cat(answers)


def _attend_rows(query: Tensor, key: Tensor, value: Tensor, tile: int) -> Tensor:
    """In mixed precision the matrix products are bfloat16, their sums, the softmax and its running maximum float32."""
    highest = query.new_full((*query.shape[:2], 1), -torch.inf, dtype=torch.float32)
    total = query.new_zeros((*query.shape[:2], 1), dtype=torch.float32)
    mixed = query.new_zeros((*query.shape[:2], value.shape[-1]), dtype=torch.float32)
    for keys, values in zip(torch.split(key, tile, dim=1), torch.split(value, tile, dim=1), strict=True):
        scores = torch.matmul(query, keys.transpose(1, 2)).float()
        new_highest = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
        weights = scores.sub_(new_highest).exp_()
        scale = torch.exp(highest - new_highest)
        total = total * scale + weights.sum(dim=-1, keepdim=True)
        mixed = mixed * scale + weights @ values
        highest = new_highest
    return mixed / total
