"""A network of SAM 2's kind at another input size, with the same weights."""

from __future__ import annotations

from typing import Any

from transformers import Sam2VideoModel

SIZED = ("prompt_encoder", "memory_attention")
"""The parts that hold something derived from the image size."""


def share_weights(source: Sam2VideoModel, model: Sam2VideoModel) -> Sam2VideoModel:
    """Let `model`, built for another image size, use all weights of `source`, a quantized image encoder too."""
    for name, module in source.named_children():
        if name not in SIZED:
            setattr(model, name, module)
    for name in SIZED:
        getattr(model, name).load_state_dict(getattr(source, name).state_dict(), assign=True)
    for name, parameter in source.named_parameters(recurse=False):
        setattr(model, name, parameter)
    compute_positions(model)
    model.train(False).requires_grad_(False)
    return model


def compute_positions(model: Sam2VideoModel) -> None:
    """Compute what no checkpoint stores: the memory attention's grid of positions and its rotary frequencies."""
    attention: Any = model.memory_attention
    attention.position_ids = attention.precompute_positions(model.config)
    if hasattr(attention, "position_ids_k"):
        attention.position_ids_k = attention.precompute_positions(model.config, is_key=True)
    attention.rotary_emb = type(attention.rotary_emb)(model.config)


def count_parameters(model: Sam2VideoModel) -> int:
    """Learned numbers."""
    return sum(parameter.numel() for parameter in model.parameters())
