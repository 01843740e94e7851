"""INT8 dynamic quantization of the image encoder's Linear layers, for CPUs.

Dynamic quantization reaches Linear layers only: torch has no dynamic Conv2d. The memory encoder and the mask decoder stay in
float32, since their errors go round the memory loop. `docs/models.md` says what that gains and costs.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn
from transformers import Sam2VideoModel

from sam_service.errors import ModelUnavailable

logger = logging.getLogger(__name__)


def quantize_encoder(model: Sam2VideoModel, device: torch.device) -> int:
    """Replace the encoder's Linear layers by INT8 ones, in place, and return how many there were.

    Raises ModelUnavailable where that cannot be done.
    """
    if device.type != "cpu":
        raise ModelUnavailable(f"SAM2_QUANTIZE works on the CPU only, and the device is {device}; unset one of the two")
    engines = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
    quantization: Any = getattr(torch.ao, "quantization", None)
    if not engines or not hasattr(quantization, "quantize_dynamic"):
        raise ModelUnavailable(f"SAM2_QUANTIZE: torch {torch.__version__} on this machine has no INT8 engine; unset it")
    count = _linear_count(model.vision_encoder)
    if count == 0:
        logger.warning("SAM2_QUANTIZE changes nothing: this model's image encoder has no Linear layer")
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the API is to move to another package
        warnings.simplefilter("ignore", UserWarning)
        quantization.quantize_dynamic(model.vision_encoder, {nn.Linear}, dtype=torch.qint8, inplace=True)
    changed = count - _linear_count(model.vision_encoder)
    logger.info("%d of the image encoder's %d Linear layers run in INT8 (%s)", changed, count, torch.backends.quantized.engine)
    return changed


def _linear_count(module: nn.Module) -> int:
    return sum(type(layer) is nn.Linear for layer in module.modules())
