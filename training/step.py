"""The video network's step, differentiable and batched over objects, as inference performs it.

The rules are those of transformers' `Sam2VideoModel` (`_single_frame_forward`, `_prepare_memory_conditioned_features`,
`_encode_new_memory`), which follow Meta's predictor; the modules are the library's own. Shapes: N frames, O objects,
C hidden width, M memory width, S image side, g = S / 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sam_service.core.models.nano.appearance import describe, fit, mark
from sam_service.core.models.nano.architecture import HINTS, LOGIT_UNIT
from torch import Tensor
from torch.nn import functional
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import NO_OBJ_SCORE, get_1d_sine_pe

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LOGIT_LIMIT = 32.0  # of earlier logits given back as a mask prompt


@dataclass
class Features:
    """Of N frames: fine (N, C/8, S/4, S/4), middle (N, C/4, S/8, S/8), top and its position encoding (N, C, g, g).

    description: (N, D, S/4, S/4), what appearance is learnt from, without gradient.
    """

    fine: Tensor
    middle: Tensor
    top: Tensor
    position: Tensor
    description: Tensor

    def of(self, index: Tensor) -> Features:
        """The features of the frames that `index` (O,) names, one for each object."""
        parts = self.fine, self.middle, self.top, self.position, self.description
        return Features(*(part[index] for part in parts))


@dataclass
class Decoded:
    """logits (O, 1, S/4, S/4), before the object score is heeded; iou, score (O,); token (O, C) behind the pointer."""

    logits: Tensor
    iou: Tensor
    score: Tensor
    token: Tensor

    def of(self, index: Tensor) -> Decoded:
        """The rows that `index` names."""
        return Decoded(self.logits[index], self.iou[index], self.score[index], self.token[index])

    def gated(self) -> Tensor:
        """The logits as inference reports them: NO_OBJ_SCORE where the object is judged absent."""
        return torch.where(self.score[:, None, None, None] > 0, self.logits, NO_OBJ_SCORE)


@dataclass
class Memory:
    """One remembered frame of O objects: its number, whether it was prompted, cells (O, g * g, M), pointer (O, C).

    logits: (O, 1, S/4, S/4) as reported; appearance: (O, D), see `sam_service.core.appearance`; both without gradient.
    """

    time: int
    prompted: bool
    cells: Tensor
    pointer: Tensor
    logits: Tensor
    appearance: Tensor


def normalise(frames: Tensor) -> Tensor:
    """Bytes (..., S, S, 3) RGB -> normalised floats (..., 3, S, S)."""
    mean, std = (torch.tensor(values, device=frames.device) * 255 for values in (MEAN, STD))
    return ((frames.float() - mean) / std).movedim(-1, -3)


def encode(model: Sam2VideoModel, pixels: Tensor) -> Features:
    """Features of normalised frames (N, 3, S, S)."""
    output = model.vision_encoder(pixels.contiguous(memory_format=torch.channels_last))
    fine, middle, top = output.fpn_hidden_states
    decoder = model.mask_decoder
    fine, middle = decoder.conv_s0(fine), decoder.conv_s1(middle)
    with torch.autocast(pixels.device.type, enabled=False):
        colour = functional.avg_pool2d(pixels.float(), 4)
        description = describe(fine.detach().float(), middle.detach().float(), colour)
    return Features(fine, middle, top, output.fpn_position_encoding[-1].to(top.dtype), description)


def hint(features: Features, memories: list[Memory], carried: Tensor | None, mask: Tensor | None) -> Tensor:
    """Hints (O, HINTS, S/4, S/4): the carried mask and the mask prompt (O, 1, S/4, S/4), and marks by appearance."""
    hints = features.description.new_zeros(len(features.fine), HINTS, *features.fine.shape[-2:])
    for channel, logits in enumerate((carried, mask)):
        if logits is not None:
            hints[:, channel] = logits[:, 0].detach().clamp(-LOGIT_UNIT, LOGIT_UNIT) / LOGIT_UNIT
    if memories:
        with torch.autocast(hints.device.type, enabled=False):
            first = next(m for m in memories if m.prompted)
            hints[:, 2:3] = mark(features.description, first.appearance)
            hints[:, 3:4] = mark(features.description, memories[-1].appearance)
    return hints


def decode(
    model: Sam2VideoModel,
    features: Features,
    top: Tensor,
    points: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    hints: Tensor,
) -> Decoded:
    """Masks from conditioned `top` (O, C, g, g), points (O, P, 2) in pixels, labels (O, P), mask (O, 1, S/4, S/4)."""
    with torch.autocast(top.device.type, enabled=False):
        clamped = None if mask is None else mask.float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        sparse, dense = model.prompt_encoder(points[:, None], labels[:, None], None, clamped)
        grid = model.get_image_wide_positional_embeddings().expand(len(top), -1, -1, -1)
    logits, iou, tokens, score = model.mask_decoder(
        image_embeddings=top,
        image_positional_embeddings=grid,
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
        high_resolution_features=[features.fine, features.middle],
        hints=hints.to(features.fine.dtype),
    )
    return Decoded(logits[:, 0].float(), iou[:, 0, 0].float(), score[:, 0, 0].float(), tokens[:, 0, 0])


def prompted(
    model: Sam2VideoModel, features: Features, points: Tensor, labels: Tensor, mask: Tensor | None = None
) -> Decoded:
    """A conditioning frame: no memory, prompts as for `decode`."""
    top = features.top + model.no_memory_embedding.reshape(1, -1, 1, 1)
    return decode(model, features, top, points, labels, mask, hint(features, [], None, mask))


def tracked(
    model: Sam2VideoModel, features: Features, memories: list[Memory], time: int, carried: Tensor | None
) -> tuple[Decoded, Tensor]:
    """A frame without prompts, conditioned on memories and on the mask carried along; also the conditioned top features."""
    points = features.top.new_zeros(len(features.top), 1, 2, dtype=torch.float32)
    labels = torch.full(points.shape[:2], -1, dtype=torch.int32, device=points.device)
    top = attend(model, features, memories, time)
    return decode(model, features, top, points, labels, None, hint(features, memories, carried, None)), top


def corrected(
    model: Sam2VideoModel, features: Features, top: Tensor, points: Tensor, labels: Tensor, earlier: Tensor
) -> Decoded:
    """A click on a tracked frame: its conditioned features, and its earlier logits (O, 1, S/4, S/4) as mask prompt."""
    return decode(model, features, top, points, labels, earlier, hint(features, [], None, earlier))


def attend(model: Sam2VideoModel, features: Features, memories: list[Memory], time: int) -> Tensor:
    """The top features (O, C, g, g), conditioned on prompted frames, on the last tracked ones and on the pointers."""
    objects, width, rows, columns = features.top.shape
    device = features.top.device
    spatial = model.memory_encoder.position_encoding((1, model.mem_dim, rows, columns), device, torch.float32)
    spatial = spatial.flatten(2).transpose(1, 2)  # (1, g * g, M)
    cells, positions = [], []
    for memory in memories:
        age = time - memory.time
        if memory.prompted or age < model.num_maskmem:
            slot = -1 if memory.prompted else age - 1
            cells.append(memory.cells)
            positions.append(spatial + model.memory_temporal_positional_encoding[slot])
    recalled = [m for m in memories if m.prompted] + [m for m in reversed(memories) if not m.prompted]
    longest = model.config.max_object_pointers_in_encoder
    recalled = [m for m in recalled if m.prompted or time - m.time < longest]
    pointers, ages = pointer_tokens(model, recalled, time)
    memory_cells = torch.cat([*cells, pointers], 1)
    memory_positions = torch.cat([*positions, ages], 1).expand(objects, -1, -1)
    output = model.memory_attention(
        current_vision_features=features.top.flatten(2).permute(2, 0, 1),
        current_vision_position_embeddings=features.position.flatten(2).permute(2, 0, 1),
        memory=memory_cells.transpose(0, 1),
        memory_posision_embeddings=memory_positions.transpose(0, 1),
        num_object_pointer_tokens=pointers.shape[1],
    )  # (1, O, g * g, C)
    conditioned: Tensor = output.reshape(objects, rows, columns, width)
    return conditioned.permute(0, 3, 1, 2)


def pointer_tokens(model: Sam2VideoModel, recalled: list[Memory], time: int) -> tuple[Tensor, Tensor]:
    """Pointers as tokens (O, R * C / M, M), and the encoding of their ages (1, R * C / M, M)."""
    stacked = torch.stack([m.pointer for m in recalled], 1)  # (O, R, C)
    pieces = stacked.shape[-1] // model.mem_dim
    ages = torch.tensor([time - m.time for m in recalled], dtype=torch.float32, device=stacked.device)
    oldest = model.config.max_object_pointers_in_encoder - 1
    sine: Tensor = get_1d_sine_pe(ages / oldest, dim=stacked.shape[-1])
    encoded = model.temporal_positional_encoding_projection_layer(sine)  # (R, M)
    tokens = stacked.reshape(len(stacked), -1, model.mem_dim)
    return tokens, encoded.repeat_interleave(pieces, 0)[None]


def memorise(model: Sam2VideoModel, features: Features, decoded: Decoded, time: int, is_prompted: bool) -> Memory:
    """What later frames will see of this one, from gated logits and the object score."""
    config = model.config
    mask = functional.interpolate(decoded.gated(), scale_factor=4.0, mode="bilinear", align_corners=False)
    share = (mask > 0).float() if is_prompted else mask.sigmoid()
    cells, _ = model.memory_encoder(
        features.top, share * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
    )
    visible = (decoded.score > 0).float()[:, None]
    occluded = model.occlusion_spatial_embedding_parameter
    assert occluded is not None
    cells = cells.flatten(2).transpose(1, 2) + ((1 - visible) * occluded)[:, None]
    pointer = visible * model.object_pointer_proj(decoded.token) + (1 - visible) * model.no_object_pointer
    logits = decoded.gated().detach()
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
        appearance = fit(features.description, logits)
    return Memory(time, is_prompted, cells, pointer, logits, appearance)
