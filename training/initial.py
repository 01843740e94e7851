"""Starting weights: the library's small normals learn slowly at these widths."""

from __future__ import annotations

import torch
from sam_service.core.models.nano.architecture import NanoBlock
from torch import nn
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoAttention, Sam2VideoMemoryFuserCXBlock

LEARNED_VECTORS = {
    "no_memory_embedding",
    "memory_temporal_positional_encoding",
    "no_object_pointer",
    "occlusion_spatial_embedding_parameter",
}
# Layers whose answer is added to the library's: they start at nought.
SILENT = ("mask_decoder.prompt_readout", "mask_decoder.hint_embed.2", "mask_decoder.outline.4")


@torch.no_grad()
def initialise(model: Sam2VideoModel) -> None:
    """Xavier and Kaiming weights, larger tokens, residual branches that start small, clicks that find their place."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.5)
        elif isinstance(module, Sam2VideoMemoryFuserCXBlock):
            module.scale.fill_(0.1)
        elif isinstance(module, NanoBlock):
            nn.init.constant_(module.narrow_norm.weight, 0.2)
    for name, parameter in model.named_parameters():
        if name in LEARNED_VECTORS:
            nn.init.normal_(parameter, std=0.02)
        elif name.startswith(SILENT):
            nn.init.zeros_(parameter)
        elif "hypernetworks_mlps" in name and name.endswith("proj_out.weight"):
            parameter.mul_(0.1)  # logits start near zero
    _tie_places(model)


def _tie_places(model: Sam2VideoModel) -> None:
    """Equal query and key projections in the decoder's cross-attentions: the same position then matches itself."""
    for name, module in model.mask_decoder.named_modules():
        if isinstance(module, Sam2VideoAttention) and not name.endswith("self_attn"):
            module.k_proj.weight.copy_(module.q_proj.weight)
