"""The one way to build a predictor and a frame for it: the trainer's evaluation and the benchmarks measure what is served."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sam_service.core.device import DevicePolicy, choose_device
from sam_service.core.features import FeatureCache
from sam_service.core.frames import ClipFrame, Image
from sam_service.core.models import registry
from sam_service.core.models.family import Checkpoint
from sam_service.core.predictor import VideoPredictor
from sam_service.core.speedups import Speedups
from sam_service.telemetry import Telemetry


def use_threads(threads: int) -> None:
    """Let torch compute with so many threads in this process."""
    torch.set_num_threads(threads)


def build_predictor(size: str = registry.DEFAULT_SIZE, checkpoint: Checkpoint | None = None, *, image_size: int | None = None,
                    policy: DevicePolicy | None = None, speedups: Speedups | None = None, features: FeatureCache | None = None,
                    track_every: int = 1, corrections_condition: bool = True,
                    telemetry: Telemetry | None = None) -> VideoPredictor:
    """Load a network, prepare it for its device and put the session engine around it.

    image_size: side in pixels of its input, the size's own if None. policy: the CPU if None. The rest is as in
    `VideoPredictor`. Raises InvalidInput, ModelUnavailable, StorageFull.
    """
    policy = policy or choose_device("cpu")
    network = registry.load(size, checkpoint or Checkpoint(), image_size)
    quantized = network.prepare(policy, speedups or Speedups())
    return VideoPredictor(network, policy, features=features, track_every=track_every,
                          corrections_condition=corrections_condition, quantized=quantized, telemetry=telemetry)


def clip_frame(predictor: VideoPredictor, index: int, size: tuple[int, int], read: Callable[[int], Image]) -> ClipFrame:
    """A frame of a clip for a predictor. size: width and height in pixels. read: gives a frame (H, W, 3)."""
    network = predictor.network
    return ClipFrame(index, size, read, lambda image: network.resize(image, network.image_size))
