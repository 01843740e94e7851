"""The sizes of the network: where each is published, how its image encoder is built, at which image sizes it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

from sam_service.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class ModelSize:
    """One size: where its weights are published, and the numbers that tell its image encoder (Hiera) apart.

    `blocks` and `windows` are per stage, a window's side counted in tokens; `background` is the side of the learned
    grid of position embeddings; `image_size` is the side in pixels of the square frames that it was trained on.
    """

    name: str
    parameters_m: float
    repo: str | None = None
    meta_file: str | None = None
    width: int = 0
    heads: int = 0
    blocks: tuple[int, ...] = ()
    global_blocks: tuple[int, ...] = ()
    windows: tuple[int, ...] = (8, 4, 14, 7)
    background: int = 7
    image_size: int = 1024
    revision: str = "main"  # a branch moves: pin a commit's hash here, or hand load_model a `revision`
    note: str = ""


SIZES: dict[str, ModelSize] = {
    size.name: size
    for size in (
        ModelSize("nano", 4.6, image_size=320, note="embedded, for trying, testing and speed; SAM 2.1 for quality"),
        ModelSize("tiny", 39.0, "facebook/sam2.1-hiera-tiny", "sam2.1_hiera_tiny.pt",
                  96, 1, (1, 2, 7, 2), (5, 7, 9)),
        ModelSize("small", 46.1, "facebook/sam2.1-hiera-small", "sam2.1_hiera_small.pt",
                  96, 1, (1, 2, 11, 2), (7, 10, 13)),
        ModelSize("base_plus", 80.9, "facebook/sam2.1-hiera-base-plus", "sam2.1_hiera_base_plus.pt",
                  112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
        ModelSize("large", 224.4, "facebook/sam2.1-hiera-large", "sam2.1_hiera_large.pt",
                  144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
    )
}  # fmt: skip


def check_image_size(image_size: int) -> None:
    """Raise InvalidInput unless a network can run at `image_size` pixels."""
    if not 128 <= image_size <= 2048 or image_size % 32:
        raise InvalidInput(
            f"image_size must be a multiple of 32 between 128 and 2048, not {image_size}: the encoder's position "
            "embedding repeats every 8 tokens of 4 pixels, and its coarsest tokens are 32 pixels wide",
            field="image_size",
        )


def config_for(size: str, image_size: int | None = None) -> Sam2VideoConfig:
    """The library's configuration of a SAM 2.1 size (not nano). All that is not named here is the library's default."""
    spec = SIZES[size]
    stages = range(len(spec.blocks))
    backbone = Sam2HieraDetConfig(
        hidden_size=spec.width,
        num_attention_heads=spec.heads,
        blocks_per_stage=list(spec.blocks),
        embed_dim_per_stage=[spec.width << stage for stage in stages],
        num_attention_heads_per_stage=[spec.heads << stage for stage in stages],
        window_size_per_stage=list(spec.windows),
        global_attention_blocks=list(spec.global_blocks),
        window_positional_embedding_background_size=[spec.background] * 2,
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[spec.width << stage for stage in reversed(stages)]
    )
    return resize(Sam2VideoConfig(vision_config=vision), image_size or spec.image_size)


def resize(config: Sam2VideoConfig, image_size: int) -> Sam2VideoConfig:
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
