"""What an object looks like against its surroundings: a linear model of each remembered frame, solved in closed form.

For every remembered frame a ridge regression tells the pixels of the mask from the others by the encoder's fine features
and by colour; applied to a new frame it marks what looks like the object. Robinson et al., CVPR 2020, track with such
target models. The nano model gets the marks of the first prompted frame and of the frame before as hints.

N: frames. O: objects. D: length of a description. s = S/4.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

RIDGE = 0.03  # added to the diagonal of the normal equations, as a share of it
LEAST_AREA = 3.0  # cells of an object below which there is nothing to learn from
MOST = 1.5  # largest mark; 1 is object, -1 is background


def describe(fine: Tensor, middle: Tensor, colour: Tensor) -> Tensor:
    """Descriptions (N, D, s, s) of each place: features at strides 4 and 8, colour, products of colours, and a one.

    fine (N, C/8, s, s); middle (N, C/4, s/2, s/2); colour (N, 3, s, s), normalised.
    """
    size = fine.shape[-2:]
    coarse = functional.interpolate(middle.float(), size=size, mode="bilinear", align_corners=False)
    first, second = torch.triu_indices(3, 3)
    products = colour[:, first] * colour[:, second]
    return torch.cat([fine.float(), coarse, colour, products, torch.ones_like(colour[:, :1])], 1)


def fit(description: Tensor, logits: Tensor) -> Tensor:
    """Weights (O, D) that tell masks from their surroundings; zeros for an object that is hardly there.

    description (O, D, s, s), or (1, D, s, s) for all; logits (O, 1, s, s) of the masks.
    """
    share = logits.flatten(1).sigmoid()
    inside, outside = share.sum(1, keepdim=True), (1 - share).sum(1, keepdim=True)
    weight = share / inside.clamp(min=1) + (1 - share) / outside.clamp(min=1)
    flat = description.flatten(2)
    weighted = flat * weight[:, None]
    normal = weighted @ flat.transpose(1, 2)
    normal = normal + torch.diag_embed(RIDGE * normal.diagonal(dim1=1, dim2=2) + 1e-6)
    wanted = weighted @ (2 * share - 1)[..., None]
    weights = torch.linalg.solve(normal, wanted)[..., 0]
    return torch.where((inside > LEAST_AREA) & (outside > LEAST_AREA), weights, 0.0)


def mark(description: Tensor, weights: Tensor) -> Tensor:
    """Marks (O, 1, s, s) between -MOST and MOST of places that look like the object. weights (O, D)."""
    return torch.einsum("odhw,od->ohw", description.expand(len(weights), -1, -1, -1), weights)[:, None].clamp(-MOST, MOST)
