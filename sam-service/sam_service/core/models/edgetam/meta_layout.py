"""Meta's names for the weights of EdgeTAM, and the library's names for the same tensors.

Beyond what SAM 2.1 has (`sam/renaming.py`), Meta keeps keys and values of the perceiver in one matrix, the library in two.
Counters of training batches are left out: nothing reads them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sam_service.core.models.sam.renaming import COMMON, Renaming

COUNTER = ".num_batches_tracked"
RENAMING = Renaming((
    ("image_encoder.trunk.body.*", "vision_encoder.backbone.timm_model.*"),
    ("memory_attention.layers.#.linear1.*", "memory_attention.layers.#.mlp.up_proj.*"),
    ("memory_attention.layers.#.linear2.*", "memory_attention.layers.#.mlp.down_proj.*"),
    ("spatial_perceiver.latents", "spatial_perceiver.latents_1d"),
    ("spatial_perceiver.latents_2d", "spatial_perceiver.latents_2d"),
    ("spatial_perceiver.norm.*", "spatial_perceiver.layer_norm.*"),
    ("spatial_perceiver.layers.#.attn.norm_x.*", "spatial_perceiver.layers.#.layer_norm_input.*"),
    ("spatial_perceiver.layers.#.attn.norm_latents.*", "spatial_perceiver.layers.#.layer_norm_latents.*"),
    ("spatial_perceiver.layers.#.attn.to_q.*", "spatial_perceiver.layers.#.cross_attention.q_proj.*"),
    ("spatial_perceiver.layers.#.attn.to_kv.*", "spatial_perceiver.layers.#.cross_attention.kv.*"),
    ("spatial_perceiver.layers.#.attn.to_out.*", "spatial_perceiver.layers.#.cross_attention.o_proj.*"),
    ("spatial_perceiver.layers.#.self_attn.norm.*", "spatial_perceiver.layers.#.layer_norm_self.*"),
    ("spatial_perceiver.layers.#.self_attn.to_q.*", "spatial_perceiver.layers.#.self_attention.q_proj.*"),
    ("spatial_perceiver.layers.#.self_attn.to_kv.*", "spatial_perceiver.layers.#.self_attention.kv.*"),
    ("spatial_perceiver.layers.#.self_attn.to_out.*", "spatial_perceiver.layers.#.self_attention.o_proj.*"),
    ("spatial_perceiver.layers.#.ff.0.*", "spatial_perceiver.layers.#.mlp.layer_norm.*"),
    ("spatial_perceiver.layers.#.ff.1.*", "spatial_perceiver.layers.#.mlp.up_proj.*"),
    ("spatial_perceiver.layers.#.ff.3.*", "spatial_perceiver.layers.#.mlp.down_proj.*"),
    ("spatial_perceiver.layers.#.self_ff.0.*", "spatial_perceiver.layers.#.self_mlp.layer_norm.*"),
    ("spatial_perceiver.layers.#.self_ff.1.*", "spatial_perceiver.layers.#.self_mlp.up_proj.*"),
    ("spatial_perceiver.layers.#.self_ff.3.*", "spatial_perceiver.layers.#.self_mlp.down_proj.*"),
    *COMMON,
))
BOTH, KEY, VALUE = "attention.kv.weight", "attention.k_proj.weight", "attention.v_proj.weight"


def from_meta(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Meta's tensors under the library's names; values are shared where nothing is joined. `state` must be complete."""
    renamed = RENAMING.from_meta(state)
    for name in [name for name in renamed if name.endswith(BOTH)]:
        start = name.removesuffix(BOTH)
        renamed[start + KEY], renamed[start + VALUE] = renamed.pop(name).chunk(2)
    return renamed


def to_meta(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_meta`. Also works on the meta device, where it lists Meta's names and shapes."""
    joined = {name: value for name, value in state.items() if not (
        name.startswith("spatial_perceiver.") and name.endswith((KEY, VALUE)))}
    for name in [name for name in state if name.startswith("spatial_perceiver.") and name.endswith(KEY)]:
        start = name.removesuffix(KEY)
        joined[start + BOTH] = torch.cat([state[name], state[start + VALUE]])
    return RENAMING.to_meta(joined)
