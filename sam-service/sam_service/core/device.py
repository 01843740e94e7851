"""One policy for the device: which one, in which precision, with how many threads, and how to wait for it."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import platform
import sys
from dataclasses import dataclass, replace

import torch
from torch import nn

from sam_service.errors import ModelUnavailable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    """Where the network runs. autocast: the dtype of mixed precision, or None for plain float32."""

    device: torch.device
    autocast: torch.dtype | None
    reason: str

    def context(self) -> contextlib.AbstractContextManager[object]:
        """The mixed-precision context of a step; does nothing for plain float32."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)

    def synchronize(self) -> None:
        """Wait for the device in use, whichever it is; the CPU is always in step."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def release(self) -> None:
        """Give cached device memory back."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of matrix products and convolutions in the dtype of mixed precision, in place.

    Without gradients autocast casts them anew on every use; afterwards there is nothing to cast, and the results are the same
    to the bit. Norms, embeddings and learned constants stay in float32, as autocast leaves them.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            layer.to(dtype)


def choose_device(requested: str, *, force_cpu: bool = False, precision: str = "auto") -> DevicePolicy:
    """The policy for `auto`, `cpu`, `cuda` or `mps`, in `auto`, `float32`, `bfloat16` or `fastest`.

    `auto` is bfloat16 on CUDA devices that have it (not emulated), float16 on older ones and on MPS, and float32 on a CPU.
    bfloat16 on a CPU is for those with instructions for it (AVX-512 BF16, AMX): emulated, it was measured at a 300th of
    float32's speed. `fastest` is bfloat16 on a CPU that has those, and `auto` elsewhere. Raises ModelUnavailable for a device
    or a precision that is asked for and not there.
    """
    policy = _device(requested, force_cpu=force_cpu)
    if precision == "fastest":
        precision = "bfloat16" if policy.device.type == "cpu" and cpu_has_bfloat16() else "auto"
    if precision == "auto":
        return policy
    if precision == "float32":
        return replace(policy, autocast=None)
    if not _has_bfloat16(policy.device):
        raise ModelUnavailable(f"SAM2_PRECISION=bfloat16, but {policy.device} has no instructions for it; unset it")
    return replace(policy, autocast=torch.bfloat16)


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 by itself."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_has_bfloat16()


def _device(requested: str, *, force_cpu: bool) -> DevicePolicy:
    if force_cpu or requested == "cpu":
        return DevicePolicy(torch.device("cpu"), None, "forced" if force_cpu else "asked for")
    if requested == "cuda" and not torch.cuda.is_available():
        raise ModelUnavailable("SAM2_DEVICE=cuda, but torch sees no CUDA device")
    if requested == "mps" and not torch.backends.mps.is_available():
        raise ModelUnavailable("SAM2_DEVICE=mps, but torch sees no Metal device; containers on a Mac never have one")
    if requested in ("auto", "cuda") and torch.cuda.is_available():
        cuda = torch.device("cuda")
        return DevicePolicy(cuda, torch.bfloat16 if _has_bfloat16(cuda) else torch.float16, torch.cuda.get_device_name())
    if requested in ("auto", "mps") and torch.backends.mps.is_available():
        if is_forked():
            if requested == "mps":
                raise ModelUnavailable("SAM2_DEVICE=mps, but this process was forked, and Metal does not work in a forked "
                                       "process; start the service as a process of its own, or set SAM2_DEVICE=cpu")
            logger.warning("this process was forked; Metal does not work in a forked process, so the CPU is used")
            return DevicePolicy(torch.device("cpu"), None, "forked process on macOS")
        return DevicePolicy(torch.device("mps"), torch.float16, "Apple Metal")
    return DevicePolicy(torch.device("cpu"), None, "no accelerator found")


def is_forked() -> bool:
    """Whether this process was made by fork, as gunicorn's and multiprocessing's workers on Unix are."""
    forked = multiprocessing.parent_process() is not None and multiprocessing.get_start_method(True) != "spawn"
    return forked or "gunicorn" in os.path.basename(sys.argv[0])


def is_apple_silicon() -> bool:
    """Whether this is an arm64 Mac."""
    return sys.platform == "darwin" and platform.machine() == "arm64"
