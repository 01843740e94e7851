"""SAM 2.1's image encoder on a CPU: the library's weights, the same result up to rounding, with less work and memory.

- Attention within windows knows nothing of other windows, so blocks are computed in strips of whole windows: what a block makes
  on the way stays in the processor's cache, and is never large enough for the allocator to ask the system for new pages.
- Attention over the whole picture goes by tiles through oneDNN (`cpu/tiled_attention.py`).
- A level's lateral 1 x 1 convolution and the mask decoder's 1 x 1 projection behind it are one product.
- Attention weights that nothing uses and the levels' position encodings are left out; positions of patches are computed once.

H, W: patches down and across. C: channels, as they are at that place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam2VideoModel
from transformers.models.sam2.modeling_sam2 import (
    Sam2HieraDetModel,
    Sam2MultiScaleAttention,
    Sam2MultiScaleBlock,
    Sam2VisionModel,
)

from sam_service.core.cpu import onednn
from sam_service.core.cpu.tiled_attention import attend

STRIP = 4096  # tokens
POOLED_BY = (2, 2)
TOP_DOWN = [2, 3]


class LeanAttention(Sam2MultiScaleAttention):
    """Hiera's attention."""

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """(windows, H, W, C) -> (windows, H', W', C'), halved where queries are pooled."""
        windows, height, width, _ = hidden_states.shape
        query, key, value = self.qkv(hidden_states).reshape(
            windows, height * width, 3, self.num_attention_heads, -1).unbind(2)  # each (windows, H·W, heads, d)
        if self.query_stride:
            pooled = query.reshape(windows, height, width, -1)
            pooled = torch.maximum(pooled[:, 0::2], pooled[:, 1::2])
            pooled = torch.maximum(pooled[:, :, 0::2], pooled[:, :, 1::2])
            height, width = pooled.shape[1:3]
            query = pooled.reshape(windows, height * width, self.num_attention_heads, -1)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        if windows == 1 and onednn.operand_type(hidden_states) is not None:
            mixed = attend(query[0] * self.scale, key[0], value[0])[None]
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(windows, height, width, -1))
        return projected


class LeanBlock(Sam2MultiScaleBlock):
    """A block of Hiera, in strips where it has windows and is large."""

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """(1, H, W, C) -> (1, H', W', C')."""
        _, height, width, _ = hidden_states.shape
        if not self.window_size or height * width <= 2 * STRIP:
            return self._whole(hidden_states)
        rows = self.window_size * max(1, STRIP // (self.window_size * width))
        found, at = None, 0
        for strip in hidden_states.split(rows, dim=1):
            part = self._whole(strip)
            if found is None:
                found = part.new_empty(1, height * part.shape[1] // strip.shape[1], *part.shape[2:])
            found[:, at:at + part.shape[1]] = part
            at += part.shape[1]
        assert found is not None
        return found

    def _whole(self, hidden_states: Tensor) -> Tensor:
        found: Tensor = super().forward(hidden_states)
        return found


class LeanEncoder(Sam2VisionModel):
    """The image encoder, with the mask decoder's projections of its two finer levels."""

    def fuse_projections(self, model: Sam2VideoModel) -> None:
        """Prepare; called once after the change of class."""
        decoder: Any = model.mask_decoder
        last = len(self.neck.convs) - 1
        self._laterals = [_matrix(self.neck.convs[last - level]) for level in range(last + 1)]
        for level, projection in enumerate((decoder.conv_s0, decoder.conv_s1)):
            weight, bias = _matrix(projection)
            inner_weight, inner_bias = self._laterals[level]
            fused = weight.double() @ inner_weight.double(), weight.double() @ inner_bias.double() + bias.double()
            self._laterals[level] = fused[0].to(weight.dtype), fused[1].to(bias.dtype)
        self._positions: dict[tuple[int, int], Tensor] = {}

    def levels(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(1, 3, S, S) -> the features of `ImageFeatures`: fine, middle, top."""
        backbone: Any = self.backbone
        hidden = backbone.patch_embed(image)
        place = (hidden.shape[1], hidden.shape[2])
        if place not in self._positions:
            self._positions = {place: backbone._get_pos_embed(place).contiguous()}
        hidden = hidden + self._positions[place]
        found: list[Tensor] = []
        for number, block in enumerate(backbone.blocks):
            hidden = block(hidden)
            if number in backbone.stage_ends:
                found.append(self._lateral(len(found), hidden))
        fine, middle, top, coarse = found
        top = top + F.interpolate(coarse.float(), scale_factor=2.0, mode="nearest").to(top.dtype)
        return fine, middle, top

    def forward(self, pixel_values: Tensor | None = None, **kwargs: Any) -> Any:
        """The levels, where the library's encoder gives an output with much else in it."""
        assert pixel_values is not None
        return self.levels(pixel_values)

    def _lateral(self, level: int, hidden: Tensor) -> Tensor:
        found = onednn.linear(hidden, *self._laterals[level])
        return found.permute(0, 3, 1, 2).contiguous()


def _matrix(convolution: Any) -> tuple[Tensor, Tensor]:
    """A 1 x 1 convolution's weight (out, in) and bias."""
    return convolution.weight.flatten(1), convolution.bias


def use_lean_encoder(model: Sam2VideoModel) -> None:
    """Let SAM 2.1's encoder compute this way, in place; parameters and their names stay. May be called again."""
    encoder: Any = model.vision_encoder
    if type(encoder) is not Sam2VisionModel or type(encoder.backbone) is not Sam2HieraDetModel:
        return
    neck: Any = encoder.neck
    if list(neck.fpn_top_down_levels) != TOP_DOWN or any(layer.kernel_size != (1, 1) for layer in neck.convs):
        return
    for module in encoder.backbone.modules():
        if type(module) is Sam2MultiScaleAttention and module.query_stride in (None, POOLED_BY):
            module.__class__ = LeanAttention
        elif type(module) is Sam2MultiScaleBlock:
            module.__class__ = LeanBlock
    encoder.__class__ = LeanEncoder
    changed: Any = encoder
    changed.fuse_projections(model)
