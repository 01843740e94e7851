"""Matrix products by oneDNN on x86 CPUs.

torch gives float32 products to MKL, which on AMD's CPUs is half as fast as oneDNN, and as fast elsewhere. oneDNN also applies
a GELU or ReLU while it writes the product. Results differ by rounding only (about 1e-6 relative). The operator is torch's own,
used by its compiler; where it is missing, and under autograd, everything goes the usual way.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.sam2.modeling_sam2 import Sam2FeedForward

MIN_ROWS = 64  # below, what it costs to call oneDNN outweighs what it saves


def _find() -> Any:
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


_LINEAR = _find()


def operand_type(x: Tensor) -> torch.dtype | None:
    """In what a product with `x` on the left is computed: float32, or bfloat16 in mixed precision. None: not by oneDNN."""
    if _LINEAR is None or x.device.type != "cpu" or torch.is_grad_enabled():
        return None
    if torch.is_autocast_enabled("cpu"):
        return torch.bfloat16 if torch.get_autocast_dtype("cpu") is torch.bfloat16 else None
    return torch.float32 if x.dtype is torch.float32 else None


def product(left: Tensor, right: Tensor) -> Tensor:
    """left · rightᵀ. left: (N, C); right: (M, C), contiguous. By oneDNN where there is an `operand_type`, which both have."""
    if operand_type(left) is None:
        return left @ right.T
    found: Tensor = _LINEAR(left, right, None, "none", [], "")
    return found


_USUAL: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, after: str = "none") -> Tensor:
    """`F.linear`, and `relu` or `gelu` behind it. x: (…, in), weight: (out, in), bias: (out). Returns (…, out)."""
    operand = operand_type(x) if x.numel() >= MIN_ROWS * weight.shape[1] else None
    if operand is None:
        return _USUAL[after](F.linear(x, weight, bias))
    found: Tensor = _LINEAR(x.to(operand), weight.to(operand), None if bias is None else bias.to(operand), after, [],
                            "none" if after == "gelu" else "")
    return found


class FastLinear(nn.Linear):
    """A Linear layer of the library, with the same parameters."""

    after = "none"

    @classmethod
    def like(cls, layer: nn.Linear) -> FastLinear:
        """A layer that shares the parameters of `layer`."""
        made = cls(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        return made.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        return linear(input, self.weight, self.bias, self.after)


class FastLinearGelu(FastLinear):
    """A Linear layer and the GELU behind it."""

    after = "gelu"


def use_fast_linears(model: nn.Module) -> None:
    """Let a network on the CPU compute by these layers, in place; parameters and their names stay. May be called again."""
    for module in list(model.modules()):
        if (isinstance(module, Sam2FeedForward) and getattr(module.activation, "act", None) is F.gelu
                and type(module.proj_in) is nn.Linear and module.num_layers == 2):
            module.proj_in, module.activation = FastLinearGelu.like(module.proj_in), nn.Identity()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, FastLinear.like(child))
