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
        """Wait for the device in use; see `wait_for`."""
        wait_for(self.device)

    def release(self) -> None:
        """Give cached device memory back."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given; the CPU is always in step. Called before the host reads results."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


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
    """The device and its usual precision, with the reason for it."""
    if force_cpu or requested == "cpu":
        return DevicePolicy(torch.device("cpu"), None, "SAM2_DEMO_FORCE_CPU_DEVICE" if force_cpu else "asked for")
    if requested == "cuda" and not torch.cuda.is_available():
        raise ModelUnavailable("SAM2_DEVICE=cuda, but torch sees no CUDA device")
    if requested == "mps" and not torch.backends.mps.is_available():
        raise ModelUnavailable(f"SAM2_DEVICE=mps, but {_why_no_metal()}")
    if requested in ("auto", "cuda") and torch.cuda.is_available():
        cuda = torch.device("cuda")
        return DevicePolicy(cuda, torch.bfloat16 if _has_bfloat16(cuda) else torch.float16, torch.cuda.get_device_name())
    if torch.backends.mps.is_available():
        if not is_forked():
            return DevicePolicy(torch.device("mps"), torch.float16, "Apple Metal")
        if requested == "mps":
            raise ModelUnavailable("SAM2_DEVICE=mps, but this process was forked, and Metal does not work in a forked "
                                   "process; start the service as a process of its own, or set SAM2_DEVICE=cpu")
        logger.warning("this process was forked, by gunicorn or the like; Metal does not work in a forked process, so the CPU "
                       "is used; `sam-service serve` does not fork")
        return DevicePolicy(torch.device("cpu"), None, "forked process on macOS")
    return DevicePolicy(torch.device("cpu"), None, "no CUDA device" + (f", and {_why_no_metal()}" if on_mac() else ""))


def _why_no_metal() -> str:
    """Why torch sees no Metal device."""
    if not on_mac():
        return "Metal is for Macs, and a container on a Mac is no Mac"
    if not torch.backends.mps.is_built():
        return "this torch was built without Metal; install the arm64 build"
    return "torch sees no Metal device: this macOS is too old for it, or there is no GPU"


def is_forked() -> bool:
    """Whether this process was made by fork, as gunicorn's workers and multiprocessing's on Unix may be."""
    by_multiprocessing = multiprocessing.parent_process() is not None and multiprocessing.get_start_method(True) != "spawn"
    return _forked_since_import or by_multiprocessing or "gunicorn" in os.path.basename(sys.argv[0])


def on_mac() -> bool:
    """Whether this is macOS."""
    return sys.platform == "darwin"


def is_apple_silicon() -> bool:
    """Whether this is an arm64 Mac."""
    return on_mac() and platform.machine() == "arm64"


_forked_since_import = False


def _note_fork() -> None:
    global _forked_since_import
    _forked_since_import = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
