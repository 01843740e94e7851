"""The tracking engine: one step for one frame, over the modules and weights of transformers' `Sam2VideoModel`.

Follows Meta's video predictor (SAM 2, Ravi et al., 2024; `sam2` 1.1.0) to rounding error. The differences:

- `corrections_condition`: a frame that is prompted after it was tracked becomes a conditioning frame, so that the correction
  is kept by the next propagation. Meta's predictor has the same option and leaves it off, and then forgets such a click.
- All objects of a frame share its image features, and those whose memories have the same shape share each matrix product.
- Holes in masks are not filled. Meta's predictor fills small ones with a CUDA kernel, and skips that on other devices.
- Memory is bounded (`memory_bank.py`): old frames live on disk. Beyond the spill's budget a prompt in the middle of a
  clip sees the conditioning frames and no neighbours.

B: objects. S: side of the model's input. h = w = S/16. T = h · w. C: hidden width. D: width of a memory token.
K: memory tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam2VideoModel

from sam_service.core.carry import Carry
from sam_service.core.corrections import within
from sam_service.core.device import DevicePolicy
from sam_service.core.features import FeatureCache, Frame, ImageEncoder, ImageFeatures
from sam_service.core.grabcut import SIDE
from sam_service.core.hiera import lighten
from sam_service.core.hints import Hints, Sight
from sam_service.core.memory_attention import MemoryAttention
from sam_service.core.memory_bank import FrameMemory, MemoryBank, ObjectMemory
from sam_service.core.memory_tokens import Near, Recall, sine_positions
from sam_service.core.onednn import hasten
from sam_service.core.prompts import MaskPrompt, PointPrompt, Prompt
from sam_service.core.salience import Salience
from sam_service.core.specks import without_specks
from sam_service.core.zoom import Detail, Window, cut_out, put_back, window_around
from sam_service.errors import InvalidMask

NO_OBJECT_LOGIT = -1024.0
MASK_PROMPT_LOGIT = 10.0
LOGIT_CLAMP = 32.0
DEFAULT_CACHE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class ObjectOutput:
    """The answer for one object on one frame, on the host.

    logits: (S/4, S/4) float32, a mask where positive. score: predicted IoU, 0 to 1. object_score: probability of presence.
    detail: a finer answer for a part of the frame, which goes before `logits` there.
    """

    object_id: int
    frame_index: int
    logits: NDArray[np.float32]
    score: float
    object_score: float
    detail: Detail | None = None


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What the mask decoder says of B objects: logits (B, 1, S/4, S/4), iou (B,), pointer (B, C), object_score (B,) logit."""

    logits: Tensor
    iou: Tensor
    pointer: Tensor
    object_score: Tensor

    def row(self, index: int) -> _Decoded:
        """One object alone."""
        kept = slice(index, index + 1)
        return _Decoded(self.logits[kept], self.iou[kept], self.pointer[kept], self.object_score[kept])


class Sam2VideoPredictor:
    """Holds the model and nothing of any session; a session's state is its `MemoryBank`. Not thread-safe: one owner."""

    def __init__(self, model: Sam2VideoModel, policy: DevicePolicy, *, features: FeatureCache | None = None,
                 corrections_condition: bool = True, hints: bool = False,
                 memory_share: float = 1.0, track_every: int = 1) -> None:
        """memory_share: how much of old memory maps is attended to; below 1 masks are no longer exact (`salience.py`).
        track_every: tracked frames that are no multiples of it are left to optical flow (`carry.py`)."""
        network: Any = model
        self._model = network.to(policy.device).eval()
        if policy.device.type == "cpu":
            hasten(self._model)
            lighten(self._model)
        self._policy = policy
        self._config: Any = self._model.config
        self._corrections_condition = corrections_condition
        self.image_size = int(self._config.image_size)
        cache = features if features is not None else FeatureCache(DEFAULT_CACHE_BYTES)
        self.encoder = ImageEncoder(model, policy.device, cache, side=self.image_size, keep_pixels=hints)
        self._hints = Hints(self.encoder, policy.device) if hints else None
        self._carry = Carry(track_every) if track_every > 1 else None
        with torch.inference_mode():
            self._attention = MemoryAttention(model.memory_attention)
            self._image_positions = model.get_image_wide_positional_embeddings()
            self._recall = Recall(model, policy.device, track_every)
            layers, tokens = len(model.memory_attention.layers), (self.image_size // 16) ** 2
            self._salience = Salience(layers, tokens, memory_share) if memory_share < 1 else None
            self._token_positions = sine_positions(model.hidden_dim, self.image_size // 16, policy.device)

    def step(self, bank: MemoryBank, frame: Frame, *, prompts: Mapping[int, Prompt] | None = None,
             track: Sequence[int] = (), reverse: bool = False, num_frames: int) -> list[ObjectOutput]:
        """Do everything for one frame: answer `prompts` (by object id), carry on the objects in `track`.

        `num_frames` is the length of the clip; SAM 2 scales the pointers' temporal encoding with it below 16 frames.
        Returns one output for each prompted and each tracked object, in that order. A prompted object is not also tracked;
        one in `track` that the bank does not know, or that has no prompt, is passed over. Raises InvalidMask.
        """
        with torch.inference_mode(), self._policy.context():
            memories = {}
            if prompts:
                features, sight = self._see(bank.key, frame)
                memories = {object_id: self._answer(bank.object(object_id), frame, features, sight, prompt, num_frames)
                            for object_id, prompt in prompts.items()}
            if track:
                bank.commit()
                objects = [memory for object_id in track if (memory := bank.objects.get(object_id)) is not None
                           and memory.conditioning and object_id not in memories]
                memories |= self._go_on(bank.key, objects, frame, reverse, num_frames)
            outputs = [self._to_host(object_id, frame.index, memory) for object_id, memory in memories.items()]
            self._policy.synchronize()
        return outputs

    def _see(self, key: str, frame: Frame) -> tuple[ImageFeatures, Sight | None]:
        features = self.encoder(key, frame)
        return features, None if self._hints is None else self._hints.sight(key, frame, features)

    def _answer(self, memory: ObjectMemory, frame: Frame, features: ImageFeatures, sight: Sight | None, prompt: Prompt,
                num_frames: int) -> FrameMemory:
        """Answer a prompt, as a new start where the frame was not tracked and as a correction where it was.

        A prompt that was answered before a crash is not answered again: a correction would correct its own answer.
        """
        known = memory.latest(frame.index)
        if known is not None and prompt.sequence and known.sequence == prompt.sequence:
            return known
        is_start, detail = frame.index not in memory.directions, None
        if isinstance(prompt, MaskPrompt):
            decoded = self._take_mask(features, prompt)
        else:
            if is_start:
                image = features.top + self._model.no_memory_embedding.reshape(1, -1, 1, 1)
            else:
                near = self._recall.near(memory, frame.index, memory.directions[frame.index], num_frames)
                image = self._attend([memory], [near], features, num_frames)
            earlier = None if prompt.fresh else known
            if self._hints is None or sight is None:
                decoded = self._decode_points(frame, features, image, prompt, earlier, is_start)
            elif earlier is None or prompt.boxed or not (earlier.logits > 0).any():
                decoded, detail = self._decode_guesses(self._hints, sight, image, prompt, is_start)
            else:
                decoded, detail = self._decode_correction(self._hints, frame, features, image, prompt, earlier)
        _check_finite(decoded)
        encoded = self._encode_memory(features, decoded, prompted=True)
        [answer] = self._memories_of(decoded, encoded, sight, memory.directions.get(frame.index))
        answer = replace(answer, sequence=prompt.sequence, detail=detail)
        memory.stage(frame.index, answer, conditioning=is_start or self._corrections_condition)
        return answer

    def _go_on(self, key: str, objects: Sequence[ObjectMemory], frame: Frame, reverse: bool,
               num_frames: int) -> dict[int, FrameMemory]:
        """Carry objects on to a frame, by the network or by optical flow. Objects that were prompted there keep that answer."""
        found = {} if self._carry is None else self._carry.move(key, frame, objects, reverse=reverse)
        for memory in objects:
            if memory.object_id in found:
                memory.add_tracked(frame.index, found[memory.object_id])
        left = [memory for memory in objects if memory.object_id not in found]
        if left:
            features, sight = self._see(key, frame)
            found |= self._track(left, frame.index, features, sight, reverse, num_frames)
        for memory in objects:
            memory.mark_passed(frame.index, reverse=reverse)
        return {memory.object_id: found[memory.object_id] for memory in objects}

    def _track(self, objects: Sequence[ObjectMemory], frame_index: int, features: ImageFeatures, sight: Sight | None,
               reverse: bool, num_frames: int) -> dict[int, FrameMemory]:
        """Carry objects on to a frame by the network."""
        found: dict[int, FrameMemory] = {}
        groups: dict[tuple[int, int, int], list[tuple[ObjectMemory, Near]]] = defaultdict(list)
        for memory in objects:
            if frame_index in memory.conditioning:
                found[memory.object_id] = memory.conditioning[frame_index]
            else:
                near = self._recall.near(memory, frame_index, reverse, num_frames)
                whole = 0 if self._salience is None else self._salience.shape(near)
                groups[len(near.maps), len(near.pointers), whole].append((memory, near))
        for group in groups.values():
            image = self._attend([memory for memory, _ in group], [near for _, near in group], features, num_frames)
            hints = None
            if self._hints is not None and sight is not None:
                hints = self._hints.of_tracking(sight, [memory for memory, _ in group], reverse=reverse)
            decoded = self._decode(features, image, None, None, multimask=self._use_multimask(is_start=False, num_points=0),
                                   hints=hints)
            _check_finite(decoded)
            if hints is not None:
                decoded = replace(decoded, logits=without_specks(decoded.logits))
            encoded = self._encode_memory(features, decoded, prompted=False)
            entries = self._memories_of(decoded, encoded, sight, reverse)
            for (memory, _), found[memory.object_id] in zip(group, entries, strict=True):
                memory.add_tracked(frame_index, found[memory.object_id])
        return found

    # Memory -> image

    def _attend(self, objects: Sequence[ObjectMemory], nears: Sequence[Near], features: ImageFeatures,
                num_frames: int) -> Tensor:
        """Image features conditioned on the memories of B objects, which have one shape: (B, C, h, w)."""
        rows = [self._recall.tokens(near, num_frames) for near in nears]
        tokens, positions = torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])
        flat = features.top[0].flatten(1).T
        look = None if self._salience is None else self._salience.look(nears, rows[0][2], self._policy.device)
        conditioned = self._attention(flat, self._token_positions, tokens, positions, rows[0][2], look)
        if self._salience is not None and look is not None:
            self._salience.note(objects, nears, look)
        return conditioned.transpose(1, 2).reshape(len(rows), *features.top.shape[1:])

    # Prompts and features -> masks

    def _decode_points(self, frame: Frame, features: ImageFeatures, image: Tensor, prompt: PointPrompt,
                       earlier: FrameMemory | None, is_start: bool) -> _Decoded:
        """As SAM 2 does it: an earlier answer on the frame goes in as a mask prompt."""
        device = self._policy.device
        dense = None
        if earlier is not None:
            dense = earlier.logits.to(device)[None, None].clamp(-LOGIT_CLAMP, LOGIT_CLAMP)
        multimask = self._use_multimask(is_start=is_start, num_points=len(prompt.labels))
        return self._decode(features, image, self._sparse(frame, prompt, 1), dense, multimask=multimask)

    def _decode_guesses(self, make: Hints, sight: Sight, image: Tensor, prompt: PointPrompt,
                        is_start: bool) -> tuple[_Decoded, Detail | None]:
        """Decode first guesses, keep the best, and mend it within the part of the frame around it (`zoom.py`)."""
        frame, features = sight.frame, sight.features
        width, height = frame.width, frame.height
        guesses = make.guesses(sight, prompt, self.image_size // 4)
        multimask = self._use_multimask(is_start=is_start, num_points=len(prompt.labels))
        decoded = self._decode(features, image.expand(len(guesses), -1, -1, -1), self._sparse(frame, prompt, len(guesses)),
                               guesses, multimask=multimask, hints=make.of_prompt(guesses))
        best, mixed = make.choose(guesses, decoded.logits, decoded.iou)
        decoded, logits = decoded.row(best), mixed[0, 0].float().cpu().numpy()
        window = window_around(logits, prompt, width, height)
        if window is None or frame.part is None or not bool(decoded.object_score > 0):
            return replace(decoded, logits=mixed), None
        mended = make.mended(frame.part(window), window.map(prompt, SIDE), cut_out(logits, window, width, height))
        detail = Detail(window, mended)
        return self._with(decoded, put_back(logits, detail, width, height)), detail

    def _decode_correction(self, make: Hints, frame: Frame, features: ImageFeatures, image: Tensor, prompt: PointPrompt,
                           earlier: FrameMemory) -> tuple[_Decoded, Detail | None]:
        """Correct an earlier mask where clicks say so (`corrections.py`); the decoder makes its object pointer and scores."""
        assert features.pixels is not None
        width, height = frame.width, frame.height
        logits, detail = earlier.logits.cpu().numpy(), earlier.detail
        window = window_around(logits, prompt, width, height)
        if window is None or frame.part is None:
            answer = within(Window(0, 0, width, height), features.pixels, prompt, logits, detail, width, height)
            logits, detail = (logits, detail) if answer is None else (answer, None)
        elif (answer := within(window, frame.part(window), prompt, logits, detail, width, height)) is not None:
            detail = Detail(window, answer)
            logits = put_back(logits, detail, width, height)
        dense = torch.from_numpy(logits).to(self._policy.device)[None, None].clamp(-LOGIT_CLAMP, LOGIT_CLAMP)
        decoded = self._decode(features, image, self._sparse(frame, prompt, 1), dense, multimask=False,
                               hints=make.of_prompt(dense))
        return self._with(decoded, logits), detail

    def _with(self, decoded: _Decoded, logits: NDArray[np.float32]) -> _Decoded:
        return replace(decoded, logits=torch.from_numpy(logits).to(self._policy.device)[None, None])

    def _sparse(self, frame: Frame, prompt: PointPrompt, count: int) -> tuple[Tensor, Tensor]:
        """A prompt in pixels of the input, `count` times: (B, 1, P, 2) and (B, 1, P)."""
        device = self._policy.device
        size = torch.tensor([frame.width, frame.height], dtype=torch.float32, device=device)
        points = torch.from_numpy(prompt.points).to(device) / size * self.image_size
        return points.expand(count, 1, -1, -1), torch.from_numpy(prompt.labels).to(device).expand(count, 1, -1)

    def _decode(self, features: ImageFeatures, image: Tensor, points: tuple[Tensor, Tensor] | None, dense: Tensor | None,
                *, multimask: bool, hints: Tensor | None = None) -> _Decoded:
        """Run prompt encoder and mask decoder. image: (B, C, h, w); points: (B, 1, P, 2) in input pixels and (B, 1, P);
        dense: (B, 1, S/4, S/4) logits of a mask prompt; hints: see `nano.py`."""
        model, batch = self._model, len(image)
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
            high_resolution_features=[features.fine.expand(batch, -1, -1, -1), features.middle.expand(batch, -1, -1, -1)],
            **({} if hints is None else {"hints": hints}),
        )  # (B, 1, M, S/4, S/4), (B, 1, M), (B, 1, M, C), (B, 1, 1)
        rows, best = torch.arange(batch, device=image.device), ious[:, 0].argmax(dim=-1)
        appears = (object_score[:, 0] > 0).float()  # (B, 1)
        logits = torch.where(appears[..., None, None] > 0, masks[rows, 0, best][:, None].float(), NO_OBJECT_LOGIT)
        pointer = appears * model.object_pointer_proj(tokens[rows, 0, best]) + (1 - appears) * model.no_object_pointer
        return _Decoded(logits, ious[rows, 0, best].float(), pointer.float(), object_score[:, 0, 0].float())

    def _use_multimask(self, *, is_start: bool, num_points: int) -> bool:
        config = self._config
        return bool(config.multimask_output_in_sam and (is_start or config.multimask_output_for_tracking)
                    and config.multimask_min_pt_num <= num_points <= config.multimask_max_pt_num)

    def _take_mask(self, features: ImageFeatures, prompt: MaskPrompt) -> _Decoded:
        """A mask prompt is its own answer; the decoder only makes its object pointer."""
        size, model = self.image_size, self._model
        mask = torch.from_numpy(prompt.mask).to(self._policy.device).float()[None, None]
        if mask.shape[-2:] != (size, size):
            mask = F.interpolate(mask, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
            mask = (mask >= 0.5).float()
        high = mask * 2 * MASK_PROMPT_LOGIT - MASK_PROMPT_LOGIT
        logits = F.interpolate(high, size=(size // 4, size // 4), mode="bilinear", align_corners=False, antialias=True)
        decoded = self._decode(features, features.top, None, model.mask_downsample(mask), multimask=False)
        appears = mask.amax(dim=(1, 2, 3))[:, None]
        pointer = appears * decoded.pointer + (1 - appears) * model.no_object_pointer
        object_score = appears[:, 0] * 2 * MASK_PROMPT_LOGIT - MASK_PROMPT_LOGIT
        return _Decoded(logits, torch.ones_like(decoded.iou), pointer, object_score)

    # Masks -> memory

    def _encode_memory(self, features: ImageFeatures, decoded: _Decoded, *, prompted: bool) -> Tensor:
        """Encode masks into memory maps (B, T, D) bfloat16. A prompted frame's mask is made hard first."""
        model, config, size = self._model, self._config, self.image_size
        high = F.interpolate(decoded.logits, size=(size, size), mode="bilinear", align_corners=False)
        mask = (high > 0).float() if prompted else high.sigmoid()
        mask = mask * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        maps, _ = model.memory_encoder(features.top.expand(len(mask), -1, -1, -1), mask)  # (B, D, h, w)
        if model.occlusion_spatial_embedding_parameter is not None:
            absent = (decoded.object_score <= 0).float()[:, None, None, None]
            maps = maps + absent * model.occlusion_spatial_embedding_parameter[..., None, None]
        encoded: Tensor = maps.to(torch.bfloat16).flatten(2).transpose(1, 2)
        return encoded

    def _memories_of(self, decoded: _Decoded, encoded: Tensor, sight: Sight | None, reverse: bool | None) -> list[FrameMemory]:
        """One memory for each of B decoded objects."""
        appearances: Sequence[Tensor | None] = [None] * len(encoded)
        if self._hints is not None and sight is not None:
            appearances = list(self._hints.appearances(sight, decoded.logits))
        return [FrameMemory(features=encoded[row].contiguous(), pointer=decoded.pointer[row], logits=decoded.logits[row, 0],
                            object_score=float(decoded.object_score[row]), iou=float(decoded.iou[row]), reverse=reverse,
                            appearance=appearances[row])
                for row in range(len(encoded))]

    def _to_host(self, object_id: int, frame_index: int, memory: FrameMemory) -> ObjectOutput:
        return ObjectOutput(object_id, frame_index, memory.logits.cpu().numpy(), memory.iou,
                            float(torch.tensor(memory.object_score).sigmoid()), memory.detail)


def _check_finite(decoded: _Decoded) -> None:
    """Keep a broken answer out of the memory, where it would spoil every frame after it."""
    for name in ("logits", "iou", "pointer", "object_score"):
        if not torch.isfinite(getattr(decoded, name)).all():
            raise InvalidMask(f"the network's {name.replace('_', ' ')} on this frame are not finite numbers")
