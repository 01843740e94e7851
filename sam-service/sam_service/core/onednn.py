"""Float32 matrix products by oneDNN on x86 CPUs.

torch gives float32 products to MKL, which on AMD's CPUs is half as fast as oneDNN, and as fast elsewhere. oneDNN also applies
a GELU while it writes the product. Results differ by rounding only (about 1e-6 relative). The operator is torch's own, used by
its compiler; where it is missing, and under autograd and mixed precision, everything goes the usual way.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.sam2.modeling_sam2 import Sam2FeedForward, Sam2MultiScaleAttention

MIN_ROWS = 64  # below, what it costs to call oneDNN outweighs what it saves
POOLED_BY = (2, 2)


def _find() -> Any:
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


_LINEAR = _find()


def applies(x: Tensor) -> bool:
    """Whether a product with `x` on the left may go to oneDNN."""
    return (_LINEAR is not None and x.dtype is torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu"))


def product(left: Tensor, right: Tensor) -> Tensor:
    """left · rightᵀ. left: (N, C); right: (M, C), contiguous. Only where `applies`."""
    found: Tensor = _LINEAR(left, right, None, "none", [], "")
    return found


class FastLinear(nn.Linear):
    """A Linear layer of the library, with the same parameters."""

    activation = "none"

    @classmethod
    def like(cls, layer: nn.Linear) -> FastLinear:
        """A layer that shares the parameters of `layer`."""
        made = cls(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        return made.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        if input.numel() < MIN_ROWS * self.in_features or not applies(input):
            return self._usual(input)
        found: Tensor = _LINEAR(input, self.weight, self.bias, self.activation, [], "none" if self.activation == "gelu" else "")
        return found

    def _usual(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)


class FastLinearGelu(FastLinear):
    """A Linear layer and the GELU behind it."""

    activation = "gelu"

    def _usual(self, input: Tensor) -> Tensor:
        return F.gelu(F.linear(input, self.weight, self.bias))


class LeanAttention(Sam2MultiScaleAttention):
    """Hiera's attention, which the library also lets compute weights that nothing uses, and pool through a permutation."""

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """(windows, H, W, dim) -> (windows, H', W', dim_out)."""
        windows, height, width, _ = hidden_states.shape
        query, key, value = self.qkv(hidden_states).reshape(
            windows, height * width, 3, self.num_attention_heads, -1).unbind(2)  # each (windows, H·W, heads, d)
        if self.query_stride:
            pooled = query.reshape(windows, height, width, -1)
            pooled = torch.maximum(pooled[:, 0::2], pooled[:, 1::2])
            pooled = torch.maximum(pooled[:, :, 0::2], pooled[:, :, 1::2])
            height, width = pooled.shape[1:3]
            query = pooled.reshape(windows, height * width, self.num_attention_heads, -1)
        mixed = F.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2),
                                               scale=self.scale)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(windows, height, width, -1))
        return projected


def hasten(model: nn.Module) -> None:
    """Let a network on the CPU compute by these layers, in place; parameters and their names stay. May be called again."""
    for module in list(model.modules()):
        if isinstance(module, Sam2FeedForward) and getattr(module.activation, "act", None) is F.gelu:
            if type(module.proj_in) is nn.Linear and module.num_layers == 2:
                module.proj_in, module.activation = FastLinearGelu.like(module.proj_in), nn.Identity()
        elif type(module) is Sam2MultiScaleAttention and module.query_stride in (None, POOLED_BY):
            module.__class__ = LeanAttention
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, FastLinear.like(child))
