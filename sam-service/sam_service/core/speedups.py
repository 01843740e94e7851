"""Speed-ups that a person asks for: INT8 dynamic quantization, compiling, and reading a part of the memory.

Dynamic quantization reaches Linear layers only: torch has no dynamic Conv2d. Memory encoders and mask decoders stay in float32,
since their errors go round the memory loop. Compiling reaches the image encoder, the only part of a network whose shapes never
change within a session. `docs/models.md` says what each gains and costs.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sam_service.errors import ModelUnavailable

logger = logging.getLogger(__name__)

# CUDA graphs take the launch of some thousand small kernels off the CPU; elsewhere there is nothing to launch.
COMPILE_MODES = {"cuda": "reduce-overhead", "cpu": "default"}
COMPILERS = {"cuda": ("cc", "gcc", "clang"), "cpu": ("c++", "g++", "clang++", "cl")}
"""The programs of which torch's compiler needs one, by device."""


@dataclass(frozen=True, slots=True)
class Speedups:
    """What is asked for. memory_share: how much of old memory maps is attended to; below 1 masks are no longer exact."""

    quantize: bool = False
    compile: bool = False
    memory_share: float = 1.0


def speed_up_encoder(encoder: nn.Module, device: torch.device, speedups: Speedups) -> bool:
    """Quantize or compile an image encoder, in place. Returns whether layers were quantized.

    Raises ModelUnavailable where what is asked for cannot be done.
    """
    quantized = speedups.quantize and quantize_encoder(encoder, device) > 0
    if speedups.compile:
        if quantized:
            raise ModelUnavailable("SAM2_COMPILE and SAM2_QUANTIZE exclude each other; unset one of the two")
        compile_encoder(encoder, device)
    return quantized


def quantize_encoder(encoder: nn.Module, device: torch.device) -> int:
    """Replace an encoder's Linear layers by INT8 ones, in place, and return how many there were.

    Raises ModelUnavailable where that cannot be done.
    """
    if device.type != "cpu":
        raise ModelUnavailable(f"SAM2_QUANTIZE works on the CPU only, and the device is {device}; unset one of the two")
    engines = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
    quantization: Any = getattr(torch.ao, "quantization", None)
    if not engines or not hasattr(quantization, "quantize_dynamic"):
        raise ModelUnavailable(f"SAM2_QUANTIZE: torch {torch.__version__} on this machine has no INT8 engine; unset it")
    count = _linear_count(encoder)
    if count == 0:
        logger.warning("SAM2_QUANTIZE changes nothing: this model's image encoder has no Linear layer")
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the API is to move to another package
        warnings.simplefilter("ignore", UserWarning)
        quantization.quantize_dynamic(encoder, {nn.Linear}, dtype=torch.qint8, inplace=True)
    changed = count - _linear_count(encoder)
    logger.info("%d of the image encoder's %d Linear layers run in INT8 (%s)", changed, count, torch.backends.quantized.engine)
    return changed


def compile_encoder(encoder: nn.Module, device: torch.device) -> None:
    """Let an image encoder be compiled at its first call, which then takes about a minute, and again for each input size.

    Raises ModelUnavailable on a device that this does not work on, and where there is no compiler.
    """
    if device.type not in COMPILE_MODES:
        raise ModelUnavailable(f"SAM2_COMPILE works on {' and '.join(COMPILE_MODES)}, and the device is {device}; "
                               "unset one of the two")
    if not any(map(shutil.which, COMPILERS[device.type])):
        raise ModelUnavailable(f"SAM2_COMPILE on {device.type} needs one of {', '.join(COMPILERS[device.type])} on PATH, and "
                               "there is none, as in this service's container image; install one or unset SAM2_COMPILE")
    encoder.compile(mode=COMPILE_MODES[device.type], dynamic=False)
    logger.info("the image encoder is compiled during the warm-up")


def is_compiled(encoder: nn.Module) -> bool:
    """Whether an encoder was compiled. What it returns on CUDA is overwritten by its next call."""
    return encoder._compiled_call_impl is not None


def _linear_count(module: nn.Module) -> int:
    return sum(type(layer) is nn.Linear for layer in module.modules())
