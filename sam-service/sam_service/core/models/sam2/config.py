"""The library's configuration of each SAM 2.1 size, and which input sizes the networks run at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

from sam_service.core.models.sam2.sizes import SIZES


@dataclass(frozen=True, slots=True)
class Hiera:
    """The numbers that tell an image encoder apart.

    `blocks` and `windows` are per stage, a window's side counted in tokens; `background` is the side of the learned grid of
    position embeddings.
    """

    width: int
    heads: int
    blocks: tuple[int, ...]
    global_blocks: tuple[int, ...]
    windows: tuple[int, ...] = (8, 4, 14, 7)
    background: int = 7


ENCODERS = {
    "tiny": Hiera(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "small": Hiera(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "base_plus": Hiera(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "large": Hiera(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}


def config_for(size: str, image_size: int | None = None) -> Sam2VideoConfig:
    """The configuration of a size. All that is not named here is the library's default."""
    encoder = ENCODERS[size]
    stages = range(len(encoder.blocks))
    backbone = Sam2HieraDetConfig(
        hidden_size=encoder.width,
        num_attention_heads=encoder.heads,
        blocks_per_stage=list(encoder.blocks),
        embed_dim_per_stage=[encoder.width << stage for stage in stages],
        num_attention_heads_per_stage=[encoder.heads << stage for stage in stages],
        window_size_per_stage=list(encoder.windows),
        global_attention_blocks=list(encoder.global_blocks),
        window_positional_embedding_background_size=[encoder.background] * 2,
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[encoder.width << stage for stage in reversed(stages)]
    )
    return with_image_size(Sam2VideoConfig(vision_config=vision), image_size or SIZES[size].image_size)


def with_image_size(config: Sam2VideoConfig, image_size: int) -> Sam2VideoConfig:
    """Derive all that depends on the image size, in place.

    The learned position embeddings keep their grids: at run time the encoder stretches one and repeats the other.
    """
    vision: Any = config.vision_config
    prompt_encoder: Any = config.prompt_encoder_config
    config.image_size = prompt_encoder.image_size = image_size
    vision.backbone_config.image_size = [image_size, image_size]
    vision.backbone_feature_sizes = [[image_size // stride] * 2 for stride in (4, 8, 16)]
    config.memory_attention_rope_feat_sizes = [image_size // 16] * 2
    return config
