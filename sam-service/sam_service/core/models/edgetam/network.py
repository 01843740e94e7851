"""EdgeTAM as a network of the engine."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor
from transformers import EdgeTamVideoConfig, EdgeTamVideoModel, Sam2VideoModel

from sam_service.core.device import DevicePolicy
from sam_service.core.models.edgetam.config import with_image_size
from sam_service.core.models.edgetam.lean_repvit import use_lean_encoder
from sam_service.core.models.edgetam.memory import CondensedAttention, CondensedTokens, condense
from sam_service.core.models.edgetam.repvit import EdgeTamEncoder, fold
from sam_service.core.models.sam.memory_attention import MemoryAttention
from sam_service.core.models.sam.memory_tokens import MemoryTokens, sine_positions
from sam_service.core.models.sam.network import SamNetwork
from sam_service.core.models.sam.resizing import share_weights
from sam_service.core.speedups import Speedups
from sam_service.errors import ModelUnavailable


class EdgeTamNetwork(SamNetwork):
    """Prompts and masks are those of `SamNetwork`; the image encoder is RepViT, and memory maps are condensed."""

    def prepare(self, policy: DevicePolicy, speedups: Speedups) -> bool:
        """See `Network.prepare`."""
        if speedups.quantize:
            raise ModelUnavailable("SAM2_QUANTIZE is for image encoders with Linear layers, and edgetam's has none; unset it")
        if speedups.memory_share < 1:
            raise ModelUnavailable("SAM2_MEMORY_SHARE is for whole memory maps, and those of edgetam are condensed; unset it")
        fold(self.model.vision_encoder)
        return super().prepare(policy, speedups)

    def resized_model(self, image_size: int) -> Sam2VideoModel:
        """The model at another input size, sharing all weights."""
        return share_weights(self.model, empty_model(with_image_size(copy.deepcopy(self.config), image_size)))

    def memory_attention(self) -> MemoryAttention:
        """The forward pass of the memory attention."""
        perceiver = self.perceiver
        return CondensedAttention(self.model.memory_attention, perceiver.num_latents_1d + perceiver.num_latents_2d)

    def memory_tokens(self) -> MemoryTokens:
        """What lays memories out for the memory attention."""
        return CondensedTokens(self.model, self.layout, self.device)

    def compact(self, maps: Tensor) -> Tensor:
        """Memory maps (B, D, h, w) as tokens (B, T, D)."""
        return condense(self.perceiver, maps, self._cells)

    def lean_encoder(self) -> None:
        """Let RepViT compute channels last, with what follows convolutions in them (`lean_repvit.py`)."""
        use_lean_encoder(self.model)

    @property
    def perceiver(self) -> Any:
        """The library's module with the weights that condense memory maps."""
        return self.model.spatial_perceiver

    def _set_up(self, policy: DevicePolicy, speedups: Speedups) -> None:
        super()._set_up(policy, speedups)
        with torch.inference_mode():
            self._cells = sine_positions(self.model.mem_dim, self.image_size // 16, self.device)


def empty_model(config: EdgeTamVideoConfig) -> Sam2VideoModel:
    """The network without weights: names and shapes on the meta device, no memory and no initialisation.

    The library's class, which has the parts of a `Sam2VideoModel` and passes for one here.
    """
    with torch.device("meta"):
        model: Any = EdgeTamVideoModel(config)
        model.vision_encoder = EdgeTamEncoder()
    return cast(Sam2VideoModel, model)
