"""Networks for tests that look inside one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from sam_service.core.device import choose_device
from sam_service.core.models import registry
from sam_service.core.models.family import Checkpoint, NetworkInfo
from sam_service.core.models.sam.network import SamNetwork
from sam_service.core.models.sam2.network import Sam2Network
from sam_service.core.predictor import VideoPredictor
from sam_service.core.speedups import Speedups
from transformers import Sam2VideoConfig, Sam2VideoModel


def load_network(size: str, *, checkpoint: Path | str | None = None, image_size: int | None = None, **more: Any) -> SamNetwork:
    """A network of SAM 2's kind, as the registry loads it: on the CPU in float32, not prepared. more: of the `Checkpoint`."""
    return cast(SamNetwork, registry.load(size, Checkpoint(checkpoint, **more), image_size))


def small_sam(image_size: int = 128, *, memory_share: float = 1.0) -> VideoPredictor:
    """A predictor over a network of SAM 2's kind: small widths, seeded random weights, objects that are always there."""
    torch.manual_seed(0)
    grid = image_size // 16
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1, "blocks_per_stage": [1, 1, 1, 1],
        "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [8, 4, 8, 4], "global_attention_blocks": [], "image_size": [image_size, image_size],
    }
    config = Sam2VideoConfig(
        vision_config={
            "model_type": "sam2_vision_model", "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2], "fpn_hidden_size": 128},
        prompt_encoder_config={"hidden_size": 128, "image_size": image_size},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 512, "iou_head_hidden_dim": 128},
        image_size=image_size, memory_attention_hidden_size=128, memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=512, memory_attention_rope_feat_sizes=[grid, grid],
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64, mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=256)
    model = Sam2VideoModel(config).eval().requires_grad_(False)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(5.0)
    network = Sam2Network(model, NetworkInfo("small", image_size, "tests", 0))
    policy = choose_device("cpu")
    network.prepare(policy, Speedups(memory_share=memory_share))
    return VideoPredictor(network, policy)
