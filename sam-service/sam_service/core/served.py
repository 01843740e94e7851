"""A loaded network with its predictors: what sessions keep while another one takes over new sessions."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from sam_service.core.device import DevicePolicy
from sam_service.core.models.family import Network
from sam_service.core.predictor import VideoPredictor

KEPT_PREDICTORS = 4


@dataclass(frozen=True, slots=True)
class RunningModel:
    """Which network answers. label: its name for people. advice: what a person should know of it. chosen: why this size, where
    it was left to the machine (`SAM2_MODEL_SIZE=auto`)."""

    size: str
    image_size: int
    device: str
    quantized: bool
    source: str
    parameters: int
    label: str
    advice: str | None
    chosen: str | None

    @property
    def identity(self) -> str:
        """What tells this network's memories from another's."""
        return f"{self.size} {self.source} {self.parameters}"


class ServedModel:
    """A network at the input sizes that its sessions have. Belongs to the device's thread, except for `network`."""

    def __init__(self, predictor: VideoPredictor, info: RunningModel, policy: DevicePolicy) -> None:
        self.network: Network = predictor.network
        self.info, self.policy = info, policy
        self._predictors = OrderedDict({predictor.network.image_size: predictor})

    def predictor(self, image_size: int) -> VideoPredictor:
        """The predictor for an input size. All share the weights and the feature cache; a few that were used last are kept."""
        if image_size not in self._predictors:
            self._predictors[image_size] = next(iter(self._predictors.values())).at(image_size)
        self._predictors.move_to_end(image_size)
        while len(self._predictors) > KEPT_PREDICTORS:
            self._predictors.popitem(last=False)
        return self._predictors[image_size]
