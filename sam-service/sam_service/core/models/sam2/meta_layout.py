"""Meta's names for the weights of SAM 2.1 (github.com/facebookresearch/sam2), and the library's for the same tensors."""

from __future__ import annotations

from sam_service.core.models.sam.renaming import COMMON, POSITION_MATRIX, POSITION_MATRIX_COPY, Renaming

__all__ = ["POSITION_MATRIX", "POSITION_MATRIX_COPY", "from_meta", "to_meta"]

_RENAMING = Renaming((
    ("image_encoder.trunk.patch_embed.proj.*", "vision_encoder.backbone.patch_embed.projection.*"),
    ("image_encoder.trunk.blocks.#.norm#.*", "vision_encoder.backbone.blocks.#.layer_norm#.*"),
    ("image_encoder.trunk.blocks.#.mlp.layers.0.*", "vision_encoder.backbone.blocks.#.mlp.proj_in.*"),
    ("image_encoder.trunk.blocks.#.mlp.layers.1.*", "vision_encoder.backbone.blocks.#.mlp.proj_out.*"),
    ("image_encoder.trunk.*", "vision_encoder.backbone.*"),
    *COMMON,
))
from_meta, to_meta = _RENAMING.from_meta, _RENAMING.to_meta
