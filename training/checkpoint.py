"""Checkpoint folders as the service reads them: config.json, and model.safetensors in half precision."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sam_service.core.models.nano.architecture import ARCHITECTURE
from torch import Tensor
from transformers import Sam2VideoModel


def export(state: dict[str, Tensor], folder: Path, image_size: int) -> None:
    """Write a model's state; each file appears whole or not at all. Matrices are stored in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    halved = {name: (t.half() if t.ndim > 1 and t.is_floating_point() else t) for name, t in state.items()}
    halved = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in halved.items()}
    for name in halved:  # the frequencies of positions stay exact
        if name.endswith("positional_embedding"):
            halved[name] = state[name].detach().clone()
    weights, config = folder / "model.safetensors", folder / "config.json"
    partial = weights.with_suffix(".partial")
    save_file(halved, partial)
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    note = {"architecture": ARCHITECTURE, "image_size": image_size, "sha256": digest}
    text = config.with_suffix(".partial.json")
    text.write_text(json.dumps(note, indent=2) + "\n")
    partial.chmod(0o644)
    os.replace(partial, weights)
    os.replace(text, config)


def fill(model: Sam2VideoModel, folder: Path) -> None:
    """Put a checkpoint's weights into `model`; layers that the checkpoint does not have keep theirs."""
    state = load_file(folder / "model.safetensors")
    result = model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in state.items()}, strict=False)
    if result.unexpected_keys:
        raise ValueError(f"{folder} has weights that this network has no place for: {result.unexpected_keys[:4]}")
