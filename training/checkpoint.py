"""Checkpoint folders as the service reads them: config.json, and model.safetensors in half precision."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sam_service.core.models.nano.architecture import ARCHITECTURE, Network
from torch import Tensor

IMAGE_SIZE = 320


def export(state: Mapping[str, Tensor], folder: Path, image_size: int = IMAGE_SIZE) -> None:
    """Write a network's state; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: t.detach().cpu().half().clone(memory_format=torch.contiguous_format) for name, t in state.items()}
    weights, config = folder / "model.safetensors", folder / "config.json"
    partial = weights.with_suffix(".partial")
    save_file(halves, partial)
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    note = {"architecture": ARCHITECTURE, "image_size": image_size, "sha256": digest}
    text = config.with_suffix(".partial.json")
    text.write_text(json.dumps(note, indent=2) + "\n")
    partial.chmod(0o644)
    os.replace(partial, weights)
    os.replace(text, config)


def load(folder: Path) -> Network:
    """The network of a checkpoint folder, float32."""
    network = Network()
    state = load_file(folder / "model.safetensors")
    network.load_state_dict({name: value.float() for name, value in state.items()})
    return network.train(False)
