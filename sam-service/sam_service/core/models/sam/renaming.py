"""Meta's names for the weights of networks of SAM 2's kind, and the library's names for the same tensors.

Meta's `.pt` files hold `{"model": state_dict}` in the names of its own code; the networks here are those of transformers. A
family's rules are the whole correspondence, read from top to bottom, the first match wins: `#` stands for one number and `*`
for the rest of the name, in the same order on both sides. Two things are more than a change of name: Meta keeps the four point
embeddings apart (the library stacks them into one matrix), and it keeps once the random matrix of the position encoding, which
the library holds twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Rules = tuple[tuple[str, str], ...]
COMMON: Rules = (
    # Learned constants of the memory
    ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    ("no_mem_embed", "no_memory_embedding"),
    ("no_mem_pos_enc", "no_memory_positional_encoding"),
    ("no_obj_ptr", "no_object_pointer"),
    ("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    ("obj_ptr_tpos_proj.*", "temporal_positional_encoding_projection_layer.*"),
    ("obj_ptr_proj.layers.0.*", "object_pointer_proj.proj_in.*"),
    ("obj_ptr_proj.layers.1.*", "object_pointer_proj.layers.0.*"),
    ("obj_ptr_proj.layers.2.*", "object_pointer_proj.proj_out.*"),
    ("mask_downsample.*", "mask_downsample.*"),
    ("image_encoder.neck.convs.#.conv.*", "vision_encoder.neck.convs.#.*"),
    # Memory attention
    ("memory_attention.norm.*", "memory_attention.layer_norm.*"),
    ("memory_attention.layers.#.norm#.*", "memory_attention.layers.#.layer_norm#.*"),
    ("memory_attention.layers.#.self_attn.out_proj.*", "memory_attention.layers.#.self_attn.o_proj.*"),
    ("memory_attention.layers.#.cross_attn_image.out_proj.*", "memory_attention.layers.#.cross_attn_image.o_proj.*"),
    ("memory_attention.*", "memory_attention.*"),
    # Memory encoder: Meta numbers convolution, norm and activation in one sequence
    ("memory_encoder.mask_downsampler.encoder.0.*", "memory_encoder.mask_downsampler.layers.0.conv.*"),
    ("memory_encoder.mask_downsampler.encoder.1.*", "memory_encoder.mask_downsampler.layers.0.layer_norm.*"),
    ("memory_encoder.mask_downsampler.encoder.3.*", "memory_encoder.mask_downsampler.layers.1.conv.*"),
    ("memory_encoder.mask_downsampler.encoder.4.*", "memory_encoder.mask_downsampler.layers.1.layer_norm.*"),
    ("memory_encoder.mask_downsampler.encoder.6.*", "memory_encoder.mask_downsampler.layers.2.conv.*"),
    ("memory_encoder.mask_downsampler.encoder.7.*", "memory_encoder.mask_downsampler.layers.2.layer_norm.*"),
    ("memory_encoder.mask_downsampler.encoder.9.*", "memory_encoder.mask_downsampler.layers.3.conv.*"),
    ("memory_encoder.mask_downsampler.encoder.10.*", "memory_encoder.mask_downsampler.layers.3.layer_norm.*"),
    ("memory_encoder.mask_downsampler.encoder.12.*", "memory_encoder.mask_downsampler.final_conv.*"),
    ("memory_encoder.pix_feat_proj.*", "memory_encoder.feature_projection.*"),
    ("memory_encoder.fuser.layers.#.gamma", "memory_encoder.memory_fuser.layers.#.scale"),
    ("memory_encoder.fuser.layers.#.dwconv.*", "memory_encoder.memory_fuser.layers.#.depthwise_conv.*"),
    ("memory_encoder.fuser.layers.#.norm.*", "memory_encoder.memory_fuser.layers.#.layer_norm.*"),
    ("memory_encoder.fuser.layers.#.pwconv#.*", "memory_encoder.memory_fuser.layers.#.pointwise_conv#.*"),
    ("memory_encoder.out_proj.*", "memory_encoder.projection.*"),
    # Prompt encoder
    ("sam_prompt_encoder.mask_downscaling.0.*", "prompt_encoder.mask_embed.conv1.*"),
    ("sam_prompt_encoder.mask_downscaling.1.*", "prompt_encoder.mask_embed.layer_norm1.*"),
    ("sam_prompt_encoder.mask_downscaling.3.*", "prompt_encoder.mask_embed.conv2.*"),
    ("sam_prompt_encoder.mask_downscaling.4.*", "prompt_encoder.mask_embed.layer_norm2.*"),
    ("sam_prompt_encoder.mask_downscaling.6.*", "prompt_encoder.mask_embed.conv3.*"),
    ("sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", "shared_image_embedding.positional_embedding"),
    ("sam_prompt_encoder.not_a_point_embed.*", "prompt_encoder.not_a_point_embed.*"),
    ("sam_prompt_encoder.no_mask_embed.*", "prompt_encoder.no_mask_embed.*"),
    # Mask decoder
    ("sam_mask_decoder.transformer.norm_final_attn.*", "mask_decoder.transformer.layer_norm_final_attn.*"),
    (
        "sam_mask_decoder.transformer.final_attn_token_to_image.out_proj.*",
        "mask_decoder.transformer.final_attn_token_to_image.o_proj.*",
    ),
    ("sam_mask_decoder.transformer.layers.#.norm#.*", "mask_decoder.transformer.layers.#.layer_norm#.*"),
    ("sam_mask_decoder.transformer.layers.#.mlp.layers.0.*", "mask_decoder.transformer.layers.#.mlp.proj_in.*"),
    ("sam_mask_decoder.transformer.layers.#.mlp.layers.1.*", "mask_decoder.transformer.layers.#.mlp.proj_out.*"),
    (
        "sam_mask_decoder.transformer.layers.#.self_attn.out_proj.*",
        "mask_decoder.transformer.layers.#.self_attn.o_proj.*",
    ),
    (
        "sam_mask_decoder.transformer.layers.#.cross_attn_token_to_image.out_proj.*",
        "mask_decoder.transformer.layers.#.cross_attn_token_to_image.o_proj.*",
    ),
    (
        "sam_mask_decoder.transformer.layers.#.cross_attn_image_to_token.out_proj.*",
        "mask_decoder.transformer.layers.#.cross_attn_image_to_token.o_proj.*",
    ),
    ("sam_mask_decoder.output_upscaling.0.*", "mask_decoder.upscale_conv1.*"),
    ("sam_mask_decoder.output_upscaling.1.*", "mask_decoder.upscale_layer_norm.*"),
    ("sam_mask_decoder.output_upscaling.3.*", "mask_decoder.upscale_conv2.*"),
    ("sam_mask_decoder.output_hypernetworks_mlps.#.layers.0.*", "mask_decoder.output_hypernetworks_mlps.#.proj_in.*"),
    ("sam_mask_decoder.output_hypernetworks_mlps.#.layers.1.*", "mask_decoder.output_hypernetworks_mlps.#.layers.0.*"),
    ("sam_mask_decoder.output_hypernetworks_mlps.#.layers.2.*", "mask_decoder.output_hypernetworks_mlps.#.proj_out.*"),
    ("sam_mask_decoder.iou_prediction_head.layers.0.*", "mask_decoder.iou_prediction_head.proj_in.*"),
    ("sam_mask_decoder.iou_prediction_head.layers.1.*", "mask_decoder.iou_prediction_head.layers.0.*"),
    ("sam_mask_decoder.iou_prediction_head.layers.2.*", "mask_decoder.iou_prediction_head.proj_out.*"),
    ("sam_mask_decoder.pred_obj_score_head.layers.0.*", "mask_decoder.pred_obj_score_head.proj_in.*"),
    ("sam_mask_decoder.pred_obj_score_head.layers.1.*", "mask_decoder.pred_obj_score_head.layers.0.*"),
    ("sam_mask_decoder.pred_obj_score_head.layers.2.*", "mask_decoder.pred_obj_score_head.proj_out.*"),
    ("sam_mask_decoder.*", "mask_decoder.*"),
)
"""Everything but the image encoder's trunk; put last, since a few of them match what is left."""

POSITION_MATRIX = "shared_image_embedding.positional_embedding"
POSITION_MATRIX_COPY = "prompt_encoder.shared_embedding.positional_embedding"
POINT_MATRIX = "prompt_encoder.point_embed.weight"
META_POINTS = tuple(f"sam_prompt_encoder.point_embeddings.{label}.weight" for label in range(4))

_Rule = tuple[re.Pattern[str], str]


class Renaming:
    """The correspondence for one family."""

    def __init__(self, rules: Rules) -> None:
        self._from_meta = tuple(_compile(theirs, ours) for theirs, ours in rules)
        self._to_meta = tuple(_compile(ours, theirs) for theirs, ours in rules)

    def from_meta(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Meta's tensors under the library's names; values are shared, apart from the two joins named at the top.

        `state` must be complete (all four point embeddings). A name that no rule matches keeps its name.
        """
        renamed = {_rename(name, self._from_meta): value for name, value in state.items() if name not in META_POINTS}
        renamed[POINT_MATRIX] = torch.cat([state[name] for name in META_POINTS])
        renamed[POSITION_MATRIX_COPY] = renamed[POSITION_MATRIX].clone()
        return renamed

    def to_meta(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `from_meta`. Also works on the meta device, where it lists Meta's names and shapes."""
        plain = {name: value for name, value in state.items() if name not in (POINT_MATRIX, POSITION_MATRIX_COPY)}
        renamed = {_rename(name, self._to_meta): value for name, value in plain.items()}
        renamed.update(zip(META_POINTS, torch.split(state[POINT_MATRIX], 1), strict=True))
        return renamed


def _rename(name: str, rules: Iterable[_Rule]) -> str:
    for pattern, replacement in rules:
        match = pattern.fullmatch(name)
        if match:
            return match.expand(replacement)
    return name


def _compile(source: str, target: str) -> _Rule:
    """Turn one pair of templates into a pattern and the text that replaces what it matched."""
    pattern = re.escape(source).replace(r"\#", r"(\d+)").replace(r"\*", "(.+)")
    pieces = re.split(r"[#*]", target)
    holes = (f"\\g<{number}>" for number in range(1, len(pieces)))
    return re.compile(pattern), pieces[0] + "".join(hole + piece for hole, piece in zip(holes, pieces[1:], strict=True))
