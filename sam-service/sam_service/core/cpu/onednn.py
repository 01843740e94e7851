"""Matrix products and convolutions by oneDNN on x86 CPUs.

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
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoMemoryFuserCXBlock
from transformers.models.sam2.modeling_sam2 import Sam2FeedForward
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMemoryFuserCXBlock

MIN_ROWS = 64  # below, what it costs to call oneDNN outweighs what it saves


def _find(name: str) -> Any:
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, name, None)


_LINEAR, _CONVOLUTION, _CONVOLUTION_ADDED = map(_find, (
    "_linear_pointwise", "_convolution_pointwise", "_convolution_pointwise_"))


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


def convolve(x: Tensor, layer: nn.Conv2d, after: str = "none", added: Tensor | None = None) -> Tensor:
    """A convolution, and `relu` or `gelu` behind it; or `added` and the convolution's answer, which then may lie in `added`.

    x: (B, C, h, w), fastest channels last. added: of the answer's shape. Returns (B, C', h', w').
    """
    operand = operand_type(x) if _CONVOLUTION is not None and _CONVOLUTION_ADDED is not None else None
    if operand is None:
        found = _USUAL[after](layer(x))
        return found if added is None else added + found
    bias = None if layer.bias is None else layer.bias.to(operand)
    shape = (layer.weight.to(operand), bias, layer.padding, layer.stride, layer.dilation, layer.groups)
    if added is None:
        answer: Tensor = _CONVOLUTION(x.to(operand), *shape, after, [], "none" if after == "gelu" else "")
        return answer
    answer = _CONVOLUTION_ADDED.binary(added.to(operand), x.to(operand), *shape, "add", 1.0, None, [], None)
    return answer


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
        if isinstance(module, Sam2FeedForward) and module.num_layers == 2:
            _fuse_gelu(module, "proj_in")
        elif isinstance(module, (Sam2VideoMemoryFuserCXBlock, EdgeTamVideoMemoryFuserCXBlock)):
            _fuse_gelu(module, "pointwise_conv1")
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, FastLinear.like(child))


def _fuse_gelu(module: Any, name: str) -> None:
    """Let a module's Linear layer do the GELU behind it, which the module then leaves out."""
    layer, activation = getattr(module, name), module.activation
    if type(layer) is nn.Linear and getattr(activation, "act", None) is F.gelu:
        setattr(module, name, FastLinearGelu.like(layer))
        module.activation = nn.Identity()
