"""A running average of a model's weights, which is what a checkpoint holds."""

from __future__ import annotations

import torch
from torch import nn

MOST = 0.995  # share of the old average that an update keeps, once there have been many


class Average:
    """The averaged state dict of a model; counters are copied."""

    def __init__(self, model: nn.Module) -> None:
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        self.updates += 1
        weight = 1 - min(MOST, (1 + self.updates) / (10 + self.updates))
        state = model.state_dict()
        moving = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in moving], [state[name] for name in moving], weight)
        for name in state.keys() - set(moving):
            self.state[name].copy_(state[name])
