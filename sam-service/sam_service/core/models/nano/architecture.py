"""The embedded default model: SAM 2.1's own video network at small widths, with a convolutional image encoder.

Prompt encoder, memory attention and memory encoder are those of `transformers.Sam2VideoModel`. The Hiera encoder is
replaced by `NanoEncoder`, and the mask decoder extended by hints in `NanoMaskDecoder`; both answer at the
library's interfaces. Everything that depends on the image size is derived from it here, so one set of weights runs at
any multiple of 32 pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoMaskDecoder,
    Sam2VideoPositionEmbeddingSine,
    Sam2VideoVisionEncoderOutput,
)

from sam_service.core.device import cpu_has_bfloat16

ARCHITECTURE = "nano-2"
HIDDEN = 128
MEMORY_WIDTH = 64  # fixed by the library's memory attention
STRIDES = (4, 8, 16)
STEM_WIDTH = 32
STAGE_WIDTHS = (64, 128, 256, 256)  # at strides 4, 8, 16 and 32
STAGE_DEPTHS = (2, 3, 4, 2)
STAGE_KERNELS = (3, 3, 3, 5)
HINTS = 4  # the carried mask, the mask prompt, and what looks like the object on the prompted frame and the one before
HINT_WIDTH = 32
LOGIT_UNIT = 8.0  # logits that count as one in a hint


def nano_config(image_size: int) -> Sam2VideoConfig:
    """The library's configuration for square frames of `image_size` pixels, a multiple of 32."""
    if image_size <= 0 or image_size % 32:
        raise ValueError(f"image_size must be a positive multiple of 32, not {image_size}")
    feature_sizes = [[image_size // stride] * 2 for stride in STRIDES]
    # The library builds its Hiera encoder before `build_nano` replaces it: the smallest that it accepts.
    backbone = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 1, 1, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [8, 4, 8, 4],
        "global_attention_blocks": [],
        "image_size": [image_size, image_size],
    }
    return Sam2VideoConfig(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": feature_sizes,
            "fpn_hidden_size": HIDDEN,
        },
        prompt_encoder_config={"hidden_size": HIDDEN, "image_size": image_size},
        mask_decoder_config={
            "hidden_size": HIDDEN,
            "mlp_dim": 512,
            "iou_head_hidden_dim": HIDDEN,
            "dynamic_multimask_via_stability": False,
        },
        image_size=image_size,
        multimask_output_in_sam=False,
        multimask_output_for_tracking=False,
        **_memory_config(image_size // STRIDES[-1]),
    )


def _memory_config(grid: int) -> dict[str, Any]:
    """Widths of the memory attention and the memory encoder over a `grid` x `grid` feature map."""
    return {
        "memory_attention_hidden_size": HIDDEN,
        "memory_attention_num_layers": 2,
        "memory_attention_feed_forward_hidden_size": 512,
        "memory_attention_dropout": 0.0,
        "memory_attention_rope_dropout": 0.0,
        "memory_attention_rope_feat_sizes": [grid, grid],
        "memory_encoder_hidden_size": HIDDEN,
        "memory_encoder_output_channels": MEMORY_WIDTH,
        "mask_downsampler_embed_dim": HIDDEN,
        "memory_fuser_embed_dim": HIDDEN,
        "memory_fuser_intermediate_dim": 256,
    }


def build_nano(image_size: int) -> Sam2VideoModel:
    """An untrained nano model for square frames of `image_size` pixels, in evaluation mode."""
    model: Sam2VideoModel = Sam2VideoModel(nano_config(image_size))
    model.vision_encoder = NanoEncoder()
    model.mask_decoder = NanoMaskDecoder(model.config.mask_decoder_config)
    # One positional frequency table for prompts and image, as in Meta's model; the library draws two.
    frequencies = model.prompt_encoder.shared_embedding.positional_embedding
    model.shared_image_embedding.positional_embedding.copy_(frequencies)
    model.train(False)
    return model


def fold_norms(model: Sam2VideoModel) -> None:
    """Merge the encoder's normalisation into its convolutions, for inference; the answers change by rounding only.

    Afterwards the model's state no longer has the checkpoint's keys: load first, fold then.
    """
    for module in list(model.vision_encoder.modules()):
        layers = list(module.named_children())
        for (name, layer), (norm_name, norm) in zip(layers, layers[1:], strict=False):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
                setattr(module, norm_name, nn.Identity())


def use_bfloat16(model: Sam2VideoModel, device: torch.device) -> None:
    """Let the image encoder compute in bfloat16 on a CPU that has it (AVX-512 BF16), as it did in training; elsewhere nothing.

    Without such instructions bfloat16 is emulated, hundreds of times slower. Load and fold first.
    """
    encoder: nn.Module = model.vision_encoder
    if device.type == "cpu" and cpu_has_bfloat16():
        encoder.to(torch.bfloat16)
        encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # known to torch, not to its stubs


class NanoBlock(nn.Module):
    """A residual block: depthwise convolution, then a pointwise pair twice as wide in between."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.spatial_norm = nn.BatchNorm2d(width)
        self.widen = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.widen_norm = nn.BatchNorm2d(2 * width)
        self.narrow = nn.Conv2d(2 * width, width, 1, bias=False)
        self.narrow_norm = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        hidden = self.spatial_norm(self.spatial(features))
        hidden = functional.relu(self.widen_norm(self.widen(hidden)))
        residual: Tensor = self.narrow_norm(self.narrow(hidden))
        return features + residual


def _downsample(width_in: int, width_out: int) -> nn.Sequential:
    """Half the resolution: a strided 3x3 convolution, normalised, rectified."""
    convolution = nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width_out), nn.ReLU())


class NanoMaskDecoder(Sam2VideoMaskDecoder):
    """The library's decoder with hints: maps at the masks' resolution that say where the object may be.

    The few channels of a narrow decoder lose an outline between stride 16 and stride 4. So a mask prompt is read back from
    its embedding by one linear layer, and all hints go in twice: embedded beside the image, for the decoder to weigh, and
    into a small head that draws the outline anew from hints, fine features and the decoder's own masks.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.prompt_readout = nn.ConvTranspose2d(width, 1, kernel_size=4, stride=4)
        self.hint_embed = nn.Sequential(nn.Conv2d(HINTS, HINT_WIDTH, 4, stride=4), nn.ReLU(), nn.Conv2d(HINT_WIDTH, width, 1))
        self.outline = nn.Sequential(
            nn.Conv2d(width // 8 + 1 + HINTS, HINT_WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HINT_WIDTH, HINT_WIDTH, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(HINT_WIDTH, 1, 3, padding=1),
        )

    def forward(
        self,
        image_embeddings: Tensor,
        image_positional_embeddings: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        high_resolution_features: list[Tensor],
        *args: Any,
        hints: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As the library's: masks (B, P, M, 4h, 4w), IoU (B, P, M), tokens (B, P, M, C), object score (B, P, 1).

        hints: (B, HINTS, 4h, 4w), about -1 to 1, zero where there is none.
        """
        fine = high_resolution_features[0]
        if hints is None:
            hints = fine.new_zeros(len(fine), HINTS, *fine.shape[-2:])
        masks, iou, tokens, score = super().forward(
            image_embeddings + self.hint_embed(hints),
            image_positional_embeddings,
            sparse_prompt_embeddings,
            dense_prompt_embeddings,
            multimask_output,
            high_resolution_features,
            *args,
            **kwargs,
        )
        masks = masks + self.prompt_readout(dense_prompt_embeddings)[:, None]
        seen = (masks[:, 0, :1].float() / LOGIT_UNIT).clamp(-2, 2)
        redrawn = self.outline(torch.cat([fine, seen.to(fine.dtype), hints.to(fine.dtype)], 1))
        return masks + redrawn[:, None], iou, tokens, score


class NanoEncoder(nn.Module):
    """A convolutional pyramid with a top-down neck, in the place of the library's vision encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _downsample(3, STEM_WIDTH)
        inputs = (STEM_WIDTH, *STAGE_WIDTHS[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(_downsample(width_in, width), *(NanoBlock(width, kernel) for _ in range(depth)))
            for width_in, width, depth, kernel in zip(inputs, STAGE_WIDTHS, STAGE_DEPTHS, STAGE_KERNELS, strict=True)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, HIDDEN, 1) for width in STAGE_WIDTHS)
        self.position_encoding = Sam2VideoPositionEmbeddingSine(num_position_features=HIDDEN // 2, normalize=True)
        self._position_cache: dict[tuple[int, int, torch.device, torch.dtype], Tensor] = {}

    def _positions(self, level: Tensor) -> Tensor:
        """Sine positions (B, HIDDEN, H, W) of one level (B, HIDDEN, H, W); computed once for each size."""
        key = (level.shape[-2], level.shape[-1], level.device, level.dtype)
        if key not in self._position_cache:
            self._position_cache[key] = self.position_encoding(level[:1].shape, level.device, level.dtype)
        return self._position_cache[key].expand(level.shape[0], -1, -1, -1)

    def forward(self, pixel_values: Tensor, **_: Any) -> Sam2VideoVisionEncoderOutput:
        """(B, 3, S, S) normalised RGB -> maps (B, HIDDEN, S / stride, S / stride) for each of STRIDES; as
        bfloat16 where the encoder was made quick."""
        dtype = next(self.parameters()).dtype
        features = self.stem(pixel_values.to(dtype))
        pyramid = []
        for stage in self.stages:
            features = stage(features)
            pyramid.append(features)
        merged = self.laterals[-1](pyramid[-1])
        levels: list[Tensor] = []
        for lateral, fine in zip(list(self.laterals)[-2::-1], pyramid[-2::-1], strict=True):
            coarse = functional.interpolate(merged, size=fine.shape[-2:], mode="bilinear", align_corners=False)
            merged = lateral(fine) + coarse
            levels.insert(0, merged if dtype is torch.bfloat16 else merged.to(pixel_values.dtype))
        positions = [self._positions(level) for level in levels]
        return Sam2VideoVisionEncoderOutput(
            last_hidden_state=levels[-1].permute(0, 2, 3, 1),
            fpn_hidden_states=tuple(levels),  # type: ignore[arg-type]  # the library's annotation says one tensor
            fpn_position_encoding=tuple(positions),  # type: ignore[arg-type]
        )
