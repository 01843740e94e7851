"""Memory attention: a frame's features look at what the memory bank holds (SAM 2, Ravi et al., 2024, section 4).

Reads the weights of transformers' `Sam2VideoMemoryAttention` and gives what it gives, up to rounding, with less work:

- The rows of a softmax sum to one, so the value projection is applied after the weighted sum: values stay D = 64 wide
  instead of C = 256.
- The scores are never held whole (`cpu/tiled_attention.py`), so that a full bank at 1024 px needs no 4096 x 28 736 matrix.
- Rotations are real-valued. A pair's two channels lie half a width apart, not side by side: queries and keys are projected
  into that order, which no product of the two can see, and are rotated without gathering.
- The first layer's self-attention, which sees only the image, is done once for all objects.

It can also attend to a part of the memory tokens (`sparse_memory.py`), another part for each layer.

B: objects. Q: tokens of the frame (H/16 · W/16). K: memory tokens. C: hidden width. D: width of a memory token.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoMemoryAttention,
    Sam2VideoMemoryAttentionLayer,
    Sam2VideoRoPEAttention,
)

from sam_service.core.cpu import onednn
from sam_service.core.cpu.tiled_attention import attend
from sam_service.core.models.sam.fused_attention import fused
from sam_service.core.models.sam.sparse_memory import TokenSelection

ROWS = 1024  # of the feed-forward, tokens at a time
ROTATED = 4096  # tokens of keys that are rotated at a time


class MemoryAttention:
    """The forward pass over the library's modules. One instance for a model; holds no state of any session."""

    def __init__(self, module: Sam2VideoMemoryAttention) -> None:
        if module.config.memory_attention_num_attention_heads != 1:
            raise ValueError("memory attention with more than one head is not supported")
        self._layers = cast(list[Sam2VideoMemoryAttentionLayer], list(module.layers))
        self._norm: nn.LayerNorm = module.layer_norm
        self._projections = [(Projections(layer.self_attn), Projections(layer.cross_attn_image)) for layer in self._layers]
        cos, sin = module.rotary_emb(torch.zeros(1, device=module.position_ids.device), module.position_ids)
        self._cos: Tensor = cos[0, :, 0::2].contiguous()
        self._sin: Tensor = sin[0, :, 0::2].contiguous()

    def __call__(self, features: Tensor, image_positions: Tensor, memory: Tensor, positions: Tensor,
                 num_pointer_tokens: int, chosen: TokenSelection | None = None) -> Tensor:
        """Condition a frame on the memories of B objects.

        features: (Q, C), image_positions: (Q, C). memory: (B, K, D), positions: (B, K, D), the last `num_pointer_tokens`
        tokens being object pointers, which are not rotated. chosen: what to attend to, everything if absent. Returns (B, Q, C).
        """
        output = (features + 0.1 * image_positions)[None]
        keys = memory + positions
        for depth, layer in enumerate(self._layers):
            own, cross = self._projections[depth]
            output = output + self._self_attention(layer.self_attn, own, layer.layer_norm1(output))
            output = output.expand(len(memory), -1, -1)
            output = output + self._cross_attention(
                layer.cross_attn_image, cross, layer.layer_norm2(output), keys, memory, num_pointer_tokens, chosen, depth)
            output = output + _feed_forward(*self.feed_forward(layer), layer.layer_norm3(output))
        normed: Tensor = self._norm(output)
        return normed

    def feed_forward(self, layer: Any) -> tuple[nn.Linear, nn.Module, nn.Linear]:
        """A layer's feed-forward: a linear layer, an activation, a linear layer."""
        return layer.linear1, layer.activation, layer.linear2

    def _self_attention(self, attention: Sam2VideoRoPEAttention, projections: Projections, x: Tensor) -> Tensor:
        query, key = self._rotate(projections.query(x)), self._rotate(projections.key(x))
        if onednn.operand_type(x) is not None:
            mixed = attend(query * attention.scaling, key, attention.v_proj(x))
        else:
            mixed = fused(query * attention.scaling, key, attention.v_proj(x))
        projected: Tensor = attention.o_proj(mixed)
        return projected

    def _cross_attention(self, attention: Sam2VideoRoPEAttention, projections: Projections, x: Tensor, keys: Tensor,
                         memory: Tensor, num_pointer_tokens: int, chosen: TokenSelection | None, depth: int) -> Tensor:
        query = self._rotate(projections.query(x)) * attention.scaling
        if chosen is None:
            key = self.keys(projections, keys, num_pointer_tokens)
        else:
            kept = chosen.keep[depth]  # (B, K')
            rows = torch.arange(len(kept), device=kept.device)[:, None]
            memory, key = memory[rows, kept], projections.key(keys[rows, kept])
            turning = kept.shape[1] - num_pointer_tokens
            places = kept[:, :turning] % len(self._cos)
            key = torch.cat([turned(key[:, :turning], self._cos[places], self._sin[places]), key[:, turning:]], dim=1)
            chosen.watch(depth, query, key)
        if x.device.type == "cpu":
            mixed = attention.v_proj(attend(query, key, memory))
        else:  # a fused kernel keeps the scores in float32 under mixed precision, which tiles of matrix products do not
            mixed = fused(query, key, attention.v_proj(memory))
        projected: Tensor = attention.o_proj(mixed)
        return projected

    def keys(self, projections: Projections, tokens: Tensor, num_pointer_tokens: int) -> Tensor:
        """Keys (B, K, C) of memory tokens (B, K, D), those of maps rotated; large maps one after the other, so that each is
        still in the processor's cache when it is rotated."""
        spatial, side = tokens.shape[1] - num_pointer_tokens, len(self._cos)
        together = side * max(1, ROTATED // side)
        maps = [self._rotate(projections.key(part)) for part in tokens[:, :spatial].split(together, dim=1)]
        return torch.cat([*maps, projections.key(tokens[:, spatial:])] if num_pointer_tokens else maps, dim=1)

    def _rotate(self, x: Tensor) -> Tensor:
        """Rotary positions for n maps (B, n·Q, C), their channels in the order of `Projections`."""
        maps = x.reshape(len(x), -1, len(self._cos), x.shape[-1])
        return turned(maps, self._cos, self._sin).reshape(x.shape)


class _Projection(NamedTuple):
    weight: Tensor
    bias: Tensor | None


class Projections:
    """The query and key projections of an attention, the pairs that are rotated laid out half a width apart."""

    def __init__(self, attention: Sam2VideoRoPEAttention) -> None:
        width = attention.q_proj.weight.shape[0]
        order = torch.arange(width).reshape(-1, 2).T.flatten().to(attention.q_proj.weight.device)
        self._query, self._key = (_Projection(layer.weight[order], None if layer.bias is None else layer.bias[order])
                                  for layer in (attention.q_proj, attention.k_proj))

    def query(self, x: Tensor) -> Tensor:
        """(…, C) -> (…, C)."""
        return onednn.linear(x, *self._query)

    def key(self, x: Tensor) -> Tensor:
        """(…, C or D) -> (…, C)."""
        return onednn.linear(x, *self._key)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of channels (…, C) by angles (…, C/2)."""
    one, other = x.chunk(2, dim=-1)
    return torch.cat((one * cos - other * sin, one * sin + other * cos), dim=-1).to(x.dtype)


def _feed_forward(first: nn.Linear, activation: nn.Module, second: nn.Linear, x: Tensor) -> Tensor:
    """second(activation(first(x))) for (B, Q, C); on a CPU in pieces that stay in its cache."""
    if x.device.type != "cpu" or not isinstance(activation, nn.ReLU):
        found: Tensor = second(activation(first(x)))
        return found
    rows = x.reshape(-1, x.shape[-1]).split(ROWS)
    return torch.cat([onednn.linear(onednn.linear(part, first.weight, first.bias, "relu"), second.weight, second.bias)
                      for part in rows]).reshape(x.shape)
