"""A network of SAM 2's kind, driven through the modules and weights of transformers' `Sam2VideoModel`.

Follows Meta's video predictor (SAM 2, Ravi et al., 2024; `sam2` 1.1.0) to rounding error. Objects of a frame share its image
features, and those whose memories have the same shape share each matrix product. Holes in masks are not filled: Meta's
predictor fills small ones with a CUDA kernel, and skips that on other devices.

B: objects. S: side of the input. h = w = S/16. T = h · w. C: hidden width. D: width of a memory token. K: memory tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Sam2VideoModel

from sam_service.core.cpu.onednn import use_fast_linears
from sam_service.core.device import DevicePolicy, cast_weights
from sam_service.core.features import Features
from sam_service.core.frames import Image
from sam_service.core.memory.bank import FrameMemory
from sam_service.core.memory.selection import MemoryLayout, Selection
from sam_service.core.models.family import NetworkInfo, Step, Tracked
from sam_service.core.models.sam.memory_attention import MemoryAttention
from sam_service.core.models.sam.memory_tokens import MAP, POINTER, MemoryTokens, sine_positions
from sam_service.core.models.sam.sparse_memory import SparseMemory
from sam_service.core.prompts import MaskPrompt, PointPrompt, Prompt
from sam_service.core.speedups import Speedups, is_compiled, speed_up_encoder

NO_OBJECT_LOGIT = -1024.0
MASK_PROMPT_LOGIT = 10.0
LOGIT_CLAMP = 32.0
LEAST_COVERAGE = 1e-3  # of a cell by a mask prompt; less is rounding
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Image features: (1, C/8, 4h, 4w) and (1, C/4, 2h, 2w), already projected for the mask decoder, and (1, C, h, w).
FINE, MIDDLE, TOP = "fine", "middle", "top"


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the mask decoder says of B objects: logits (B, 1, S/4, S/4), iou (B,), pointer (B, C), object_score (B,) logit."""

    logits: Tensor
    iou: Tensor
    pointer: Tensor
    object_score: Tensor

    def row(self, index: int) -> Decoded:
        """One object alone."""
        kept = slice(index, index + 1)
        return Decoded(self.logits[kept], self.iou[kept], self.pointer[kept], self.object_score[kept])


class SamNetwork(ABC):
    """What networks of this kind share. A family says how its input is made and, where it differs, how prompts are answered."""

    def __init__(self, model: Sam2VideoModel, info: NetworkInfo) -> None:
        """model: on the CPU, in float32, without gradients. `prepare` comes before any other use."""
        config: Any = model.config
        self.model = model
        self.info = info
        self.config = config
        self.image_size = int(config.image_size)
        self.layout = MemoryLayout(config.num_maskmem - 1, int(config.max_object_pointers_in_encoder))

    # Once

    def prepare(self, policy: DevicePolicy, speedups: Speedups) -> bool:
        """See `Network.prepare`."""
        self.lower_precision(policy.device)
        quantized = speed_up_encoder(self.model.vision_encoder, policy.device, speedups)
        self._set_up(policy, speedups)
        return quantized

    def at(self, image_size: int) -> Self:
        """See `Network.at`."""
        other = type(self)(self.resized_model(image_size), self.info)
        other._set_up(self._policy, self._speedups)
        return other

    def _set_up(self, policy: DevicePolicy, speedups: Speedups) -> None:
        module: Any = self.model
        model: Sam2VideoModel = module.to(policy.device).eval()
        if policy.device.type == "cpu":
            use_fast_linears(model)
            self.lean_encoder()
        if policy.autocast is not None:
            cast_weights(model, policy.autocast)
        self.device = policy.device
        self._policy, self._speedups = policy, speedups
        self._compiled = is_compiled(model.vision_encoder)
        self._mean = torch.tensor(MEAN, device=self.device)[:, None, None] * 255
        self._std = torch.tensor(STD, device=self.device)[:, None, None] * 255
        grid = self.image_size // 16
        with torch.inference_mode():
            self._attention = self.memory_attention()
            self._image_positions = model.get_image_wide_positional_embeddings()
            self._tokens = self.memory_tokens()
            self._token_positions = sine_positions(model.hidden_dim, grid, self.device)
        self._sparse: SparseMemory | None = None
        if speedups.memory_share < 1:
            layers = len(model.memory_attention.layers)
            self._sparse = SparseMemory(self.layout, layers, grid**2, speedups.memory_share)

    # What a family says

    def resize(self, image: Image, image_size: int) -> Image:
        """Squash an (H, W, 3) uint8 RGB picture to (S, S, 3), bicubic with antialiasing, as Meta's predictor does."""
        return np.array(Pillow.fromarray(image).resize((image_size, image_size)))

    @abstractmethod
    def resized_model(self, image_size: int) -> Sam2VideoModel:
        """The model at another input size, sharing all weights."""

    def memory_attention(self) -> MemoryAttention:
        """The forward pass of the memory attention."""
        return MemoryAttention(self.model.memory_attention)

    def memory_tokens(self) -> MemoryTokens:
        """What lays memories out for the memory attention."""
        return MemoryTokens(self.model, self.layout, self.device)

    def compact(self, maps: Tensor) -> Tensor:
        """Memory maps (B, D, h, w) as tokens (B, T, D): one for each cell."""
        return maps.flatten(2).transpose(1, 2)

    def lower_precision(self, device: torch.device) -> None:
        """Let parts compute in a lower precision that they were trained in."""
        return

    def lean_encoder(self) -> None:
        """Let the image encoder compute with less work and memory on a CPU."""
        return

    def interpolated(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Network.interpolated`: the pointer, and no map."""
        return {MAP: state[MAP][:0], POINTER: state[POINTER]}

    def decode_points(self, step: Step, image: Tensor, prompt: PointPrompt, earlier: FrameMemory | None, *,
                      first: bool) -> Decoded:
        """Answer points and a box. image: (1, C, h, w), conditioned on memories. earlier: the last answer on the frame. first:
        the frame was not tracked before.

        As SAM 2 does it: an earlier answer on the frame goes in as a mask prompt.
        """
        dense = None
        if earlier is not None and not prompt.fresh:
            dense = earlier.logits.to(self.device)[None, None].clamp(-LOGIT_CLAMP, LOGIT_CLAMP)
        multimask = self.use_multimask(first=first, num_points=len(prompt.labels))
        return self.decode(step.features, image, self.sparse(step, prompt, 1), dense, multimask=multimask)

    def tracking_inputs(self, step: Step, selections: Sequence[Selection]) -> dict[str, Tensor]:
        """Further inputs of the mask decoder for B objects that are carried on to a frame."""
        return {}

    def clean(self, decoded: Decoded) -> Decoded:
        """The answer for tracked objects, cleaned."""
        return decoded

    def further_state(self, step: Step, decoded: Decoded) -> list[dict[str, Tensor]]:
        """What is kept beside map and pointer, for each of B objects."""
        return [{} for _ in range(len(decoded.logits))]

    # Pixels -> features

    def encode(self, pixels: Image) -> Features:
        """See `Network.encode`."""
        return self.features_of(pixels, self.normalised(pixels))

    def normalised(self, pixels: Image) -> Tensor:
        """(S, S, 3) uint8 RGB -> (1, 3, S, S)."""
        image = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1).float()
        return ((image - self._mean) / self._std)[None]

    def features_of(self, pixels: Image, normalised: Tensor) -> dict[str, Tensor]:
        """The features that every network of this kind has."""
        if self._compiled:
            torch.compiler.cudagraph_mark_step_begin()
        return dict(zip((FINE, MIDDLE, TOP), self._levels(normalised), strict=True))

    def _levels(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(1, 3, S, S) -> fine, middle and top."""
        found = self.model.vision_encoder(image)
        if isinstance(found, tuple):  # a lean encoder has projected them
            fine, middle, top = (level.clone() for level in found) if self._compiled else found
            return fine, middle, top
        levels, decoder = found.fpn_hidden_states, self.model.mask_decoder
        top = levels[2].clone() if self._compiled else levels[2]
        return _projected(levels[0], decoder.conv_s0), _projected(levels[1], decoder.conv_s1), _plain(top)

    # Prompts and memories -> masks

    def answer(self, step: Step, prompt: Prompt, earlier: FrameMemory | None, selection: Selection | None) -> FrameMemory:
        """See `Network.answer`."""
        if isinstance(prompt, MaskPrompt):
            decoded = self._take_mask(step.features, prompt)
        else:
            top = step.features[TOP]
            if selection is None:
                image = top + self.model.no_memory_embedding.reshape(1, -1, 1, 1)
            else:
                image, _ = self._attend(step, [selection])
            decoded = self.decode_points(step, image, prompt, earlier, first=selection is None)
        [memory] = self._memories(step, decoded, prompted=True)
        return memory

    def track(self, step: Step, selections: Sequence[Selection]) -> list[Tracked]:
        """See `Network.track`."""
        groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for row, selection in enumerate(selections):
            whole = 0 if self._sparse is None else self._sparse.whole_maps(selection)
            maps = len(selection.conditioning) + len(selection.tracked)
            groups[maps, len(selection.pointers), whole].append(row)
        found: dict[int, Tracked] = {}
        for rows in groups.values():
            group = [selections[row] for row in rows]
            image, notes = self._attend(step, group)
            decoded = self.decode(step.features, image, None, None, multimask=self.use_multimask(first=False, num_points=0),
                                  **self.tracking_inputs(step, group))
            memories = self._memories(step, self.clean(decoded), prompted=False)
            found |= dict(zip(rows, map(Tracked, memories, notes), strict=True))
        return [found[row] for row in range(len(selections))]

    def _attend(self, step: Step, selections: Sequence[Selection]) -> tuple[Tensor, list[dict[int, dict[str, Tensor]]]]:
        """Image features conditioned on the memories of B objects, which have one shape: (B, C, h, w); and, for each object,
        what is to be noted with its memories."""
        top = step.features[TOP]
        rows = [self._tokens.lay_out(selection, step.num_frames) for selection in selections]
        tokens, positions = torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])
        flat = top[0].flatten(1).T
        chosen = None if self._sparse is None else self._sparse.choose(selections, rows[0][2], self.device)
        conditioned = self._attention(flat, self._token_positions, tokens, positions, rows[0][2], chosen)
        notes: list[dict[int, dict[str, Tensor]]] = [{} for _ in selections]
        if self._sparse is not None and chosen is not None:
            notes = [self._sparse.notes(selection, chosen, row) for row, selection in enumerate(selections)]
        return conditioned.transpose(1, 2).reshape(len(rows), *top.shape[1:]), notes

    def sparse(self, step: Step, prompt: PointPrompt, count: int) -> tuple[Tensor, Tensor]:
        """A prompt in pixels of the input, `count` times: (B, 1, P, 2) and (B, 1, P)."""
        size = torch.tensor([step.frame.width, step.frame.height], dtype=torch.float32, device=self.device)
        points = torch.from_numpy(prompt.points).to(self.device) / size * self.image_size
        return points.expand(count, 1, -1, -1), torch.from_numpy(prompt.labels).to(self.device).expand(count, 1, -1)

    def decode(self, features: Features, image: Tensor, points: tuple[Tensor, Tensor] | None, dense: Tensor | None, *,
               multimask: bool, **further: Tensor) -> Decoded:
        """Run prompt encoder and mask decoder. image: (B, C, h, w); points: (B, 1, P, 2) in input pixels and (B, 1, P);
        dense: (B, 1, S/4, S/4) logits of a mask prompt; further: inputs that the family's decoder has beside."""
        model, batch = self.model, len(image)
        if points is None:
            points = (image.new_zeros(batch, 1, 1, 2), -torch.ones(batch, 1, 1, dtype=torch.int32, device=image.device))
        sparse, dense_embedding = model.prompt_encoder(
            input_points=points[0], input_labels=points[1], input_boxes=None, input_masks=dense)
        masks, ious, tokens, object_score = model.mask_decoder(
            image_embeddings=image,
            image_positional_embeddings=self._image_positions.expand(batch, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense_embedding,
            multimask_output=multimask,
            high_resolution_features=[features[level].expand(batch, -1, -1, -1) for level in (FINE, MIDDLE)],
            **further,
        )  # (B, 1, M, S/4, S/4), (B, 1, M), (B, 1, M, C), (B, 1, 1)
        rows, best = torch.arange(batch, device=image.device), ious[:, 0].argmax(dim=-1)
        appears = (object_score[:, 0] > 0).float()  # (B, 1)
        logits = torch.where(appears[..., None, None] > 0, masks[rows, 0, best][:, None].float(), NO_OBJECT_LOGIT)
        pointer = appears * model.object_pointer_proj(tokens[rows, 0, best]) + (1 - appears) * model.no_object_pointer
        return Decoded(logits, ious[rows, 0, best].float(), pointer.float(), object_score[:, 0, 0].float())

    def use_multimask(self, *, first: bool, num_points: int) -> bool:
        """Whether the decoder's best of three masks is taken instead of its one."""
        config = self.config
        return bool(config.multimask_output_in_sam and (first or config.multimask_output_for_tracking)
                    and config.multimask_min_pt_num <= num_points <= config.multimask_max_pt_num)

    def _take_mask(self, features: Features, prompt: MaskPrompt) -> Decoded:
        """A mask prompt is its own answer; the decoder only makes its object pointer.

        A mask that fills no cell by half keeps the cells that it fills most, so that tracking starts from something.
        """
        size, model = self.image_size, self.model
        mask = torch.from_numpy(prompt.mask).to(self.device).float()[None, None]
        if mask.shape[-2:] != (size, size):
            mask = F.interpolate(mask, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
            mask = (mask >= min(0.5, max(float(mask.max()) / 2, LEAST_COVERAGE))).float()
        high = mask * 2 * MASK_PROMPT_LOGIT - MASK_PROMPT_LOGIT
        logits = F.interpolate(high, size=(size // 4, size // 4), mode="bilinear", align_corners=False, antialias=True)
        highest = float(logits.max())
        if highest <= 0 and mask.any():
            logits = logits - (highest - MASK_PROMPT_LOGIT) / 2
        decoded = self.decode(features, features[TOP], None, model.mask_downsample(mask), multimask=False)
        appears = mask.amax(dim=(1, 2, 3))[:, None]
        pointer = appears * decoded.pointer + (1 - appears) * model.no_object_pointer
        object_score = appears[:, 0] * 2 * MASK_PROMPT_LOGIT - MASK_PROMPT_LOGIT
        return Decoded(logits, torch.ones_like(decoded.iou), pointer, object_score)

    # Masks -> memory

    def _memories(self, step: Step, decoded: Decoded, *, prompted: bool) -> list[FrameMemory]:
        """One memory for each of B decoded objects."""
        maps = self._encode_memory(step.features[TOP], decoded, prompted=prompted)
        further = self.further_state(step, decoded)
        object_scores, ious = torch.stack([decoded.object_score, decoded.iou]).tolist()
        return [FrameMemory(logits=decoded.logits[row, 0], object_score=object_scores[row], iou=ious[row],
                            state={MAP: maps[row].contiguous(), POINTER: decoded.pointer[row], **further[row]})
                for row in range(len(further))]

    def _encode_memory(self, top: Tensor, decoded: Decoded, *, prompted: bool) -> Tensor:
        """Encode masks into memory maps (B, T, D) bfloat16. A prompted frame's mask is made hard first."""
        model, config, size = self.model, self.config, self.image_size
        high = F.interpolate(decoded.logits, size=(size, size), mode="bilinear", align_corners=False)
        mask = (high > 0).float() if prompted else high.sigmoid()
        mask = mask * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        maps, _ = model.memory_encoder(top.expand(len(mask), -1, -1, -1), mask)  # (B, D, h, w)
        if model.occlusion_spatial_embedding_parameter is not None:
            absent = (decoded.object_score <= 0).float()[:, None, None, None]
            maps = maps + absent * model.occlusion_spatial_embedding_parameter[..., None, None]
        return self.compact(maps).to(torch.bfloat16)


def _projected(level: Tensor, convolution: nn.Conv2d) -> Tensor:
    """A 1 x 1 convolution in the precision of what goes in."""
    weight, bias = convolution.weight, convolution.bias
    if level.dtype is torch.float32 or torch.is_autocast_enabled(level.device.type):
        return _plain(convolution(level))
    return _plain(F.conv2d(level, weight.to(level.dtype), None if bias is None else bias.to(level.dtype)))


def _plain(level: Tensor) -> Tensor:
    """float32 of the encoder's bfloat16, laid out as it comes back from disk."""
    return level if level.dtype is torch.float32 or torch.is_autocast_enabled(level.device.type) else level.float().contiguous()
