"""Compiling the image encoder (`torch.compile`), the only part of the network whose shapes never change within a session."""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers import Sam2VideoModel

from sam_service.errors import ModelUnavailable

logger = logging.getLogger(__name__)

# CUDA graphs take the launch of some thousand small kernels off the CPU; elsewhere there is nothing to launch.
MODES = {"cuda": "reduce-overhead", "cpu": "default"}


def compile_encoder(model: Sam2VideoModel, device: torch.device) -> None:
    """Let the image encoder be compiled at its first call, which then takes about a minute, and again for each input size.

    Raises ModelUnavailable on a device that this does not work on.
    """
    if device.type not in MODES:
        raise ModelUnavailable(f"SAM2_COMPILE works on {' and '.join(MODES)}, and the device is {device}; unset one of the two")
    encoder: Any = model.vision_encoder
    encoder.compile(mode=MODES[device.type], dynamic=False)
    logger.info("the image encoder is compiled during the warm-up")


def is_compiled(model: Sam2VideoModel) -> bool:
    """Whether the encoder was compiled. What it returns on CUDA is overwritten by its next call."""
    encoder: Any = model.vision_encoder
    return encoder._compiled_call_impl is not None
