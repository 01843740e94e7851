"""SAM 2.1 as a network of the engine."""

from __future__ import annotations

import copy

import torch
from transformers import Sam2VideoConfig, Sam2VideoModel

from sam_service.core.models.sam.network import SamNetwork
from sam_service.core.models.sam.resizing import share_weights
from sam_service.core.models.sam2.config import with_image_size
from sam_service.core.models.sam2.hiera import use_lean_encoder


class Sam2Network(SamNetwork):
    """Prompts, memories and masks are those of `SamNetwork`; the image encoder is Hiera."""

    def resized_model(self, image_size: int) -> Sam2VideoModel:
        """The model at another input size, sharing all weights."""
        return share_weights(self.model, empty_model(with_image_size(copy.deepcopy(self.model.config), image_size)))

    def lean_encoder(self) -> None:
        """Let Hiera compute in strips and tiles (`hiera.py`)."""
        use_lean_encoder(self.model)


def empty_model(config: Sam2VideoConfig) -> Sam2VideoModel:
    """The network without weights: names and shapes on the meta device, no memory and no initialisation."""
    with torch.device("meta"):
        return Sam2VideoModel(config)
