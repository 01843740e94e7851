"""The library's configuration of EdgeTAM, as its checkpoint has it, and which input sizes the network runs at.

The library's own defaults describe another network: with a temporal code on pointers, an occlusion embedding and Hiera.
"""

from __future__ import annotations

from typing import Any

from transformers import EdgeTamVideoConfig

GRID = 16
"""Side of the grid of windows that a memory map is condensed to."""
STEP = 16 * GRID
"""The input's side is a multiple of it, so that windows have whole cells."""
FLAGS = {"enable_temporal_pos_encoding_for_object_pointers": False, "enable_occlusion_spatial_embedding": False}
# What the rest of the network asks of the image encoder, which is built by itself (`repvit.py`); the library would need timm.
STAND_IN = {"model_type": "sam2_vision_model", "fpn_hidden_size": 256, "num_feature_levels": 3}
ENCODER = {"backbone_channel_list": [384, 192, 96, 48], "fpn_hidden_size": 256, "fpn_kernel_size": 1,
           "fpn_top_down_levels": [2, 3], "num_feature_levels": 3}


def config_for(image_size: int) -> EdgeTamVideoConfig:
    """The configuration of the published checkpoint at an input size."""
    return read_config(dict(FLAGS), image_size)


def read_config(raw: dict[str, Any], image_size: int | None = None) -> EdgeTamVideoConfig:
    """A stored configuration, at another input size where one is given. Raises ValueError for another image encoder, and as the
    library does for values that it does not take."""
    _check_encoder(raw.get("vision_config") or {})
    config = EdgeTamVideoConfig.from_dict({**raw, "vision_config": dict(STAND_IN)})
    size = config.image_size if image_size is None else image_size
    return with_image_size(config, size if isinstance(size, int) else int(size[0]))


def with_image_size(config: EdgeTamVideoConfig, image_size: int) -> EdgeTamVideoConfig:
    """Derive all that depends on the image size, in place."""
    vision: Any = config.vision_config
    prompt_encoder: Any = config.prompt_encoder_config
    config.image_size = prompt_encoder.image_size = image_size
    vision.backbone_feature_sizes = [[image_size // stride] * 2 for stride in (4, 8, 16)]
    config.memory_attention_rope_feat_sizes = [image_size // 16] * 2
    return config


def _check_encoder(vision: dict[str, Any]) -> None:
    architecture = str((vision.get("backbone_config") or {}).get("architecture", "repvit_m1"))
    if architecture.split(".")[0] != "repvit_m1":
        raise ValueError(f"the image encoder is {architecture} and edgetam has repvit_m1")
    for field, wanted in ENCODER.items():
        if vision.get(field, wanted) != wanted:
            raise ValueError(f"{field} of the image encoder is {vision[field]} and edgetam has {wanted}")
