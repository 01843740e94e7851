"""A frame becomes image features, and features are kept within a byte budget.

S: side of the model's square input in pixels. h = w = S/16. C: hidden width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import Sam2VideoModel

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a session, read only when its features are not cached.

    width, height: the session's frame size in pixels. pixels: gives the (S, S, 3) uint8 RGB input of the network.
    """

    index: int
    width: int
    height: int
    pixels: Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the image encoder says of a frame, shared by all objects.

    fine: (1, C/8, 4h, 4w) and middle: (1, C/4, 2h, 2w), already projected for the mask decoder; top: (1, C, h, w).
    pixels: (S, S, 3) uint8, kept only for models that take a proposal.
    """

    fine: Tensor
    middle: Tensor
    top: Tensor
    pixels: NDArray[np.uint8] | None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        tensors = (self.fine, self.middle, self.top)
        return sum(t.numel() * t.element_size() for t in tensors) + (0 if self.pixels is None else self.pixels.nbytes)


def to_square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Squash an (H, W, 3) uint8 RGB picture to (S, S, 3), bicubic with antialiasing, as Meta's predictor does."""
    return np.array(Image.fromarray(image).resize((side, side)))


class ImageEncoder:
    """The model's image encoder with a least-recently-used cache of at most `cache_bytes`."""

    def __init__(self, model: Sam2VideoModel, device: torch.device, *, cache_bytes: int, keep_pixels: bool) -> None:
        self._model = model
        self._device = device
        self._cache_bytes = cache_bytes
        self._keep_pixels = keep_pixels
        self._cache: OrderedDict[tuple[str, int], ImageFeatures] = OrderedDict()
        self._held = 0
        self._mean = torch.tensor(MEAN, device=device)[:, None, None] * 255
        self._std = torch.tensor(STD, device=device)[:, None, None] * 255

    def __call__(self, key: str, frame: Frame) -> ImageFeatures:
        """The features of a frame of the session `key`, from the cache or computed."""
        features = self._cache.get((key, frame.index))
        if features is None:
            features = self._encode(frame.pixels())
            self._store((key, frame.index), features)
        else:
            self._cache.move_to_end((key, frame.index))
        return features

    def holds(self, key: str, frame_index: int) -> bool:
        """Whether a frame's features are cached, so that its pixels need not be read."""
        return (key, frame_index) in self._cache

    def forget(self, key: str) -> None:
        """Drop everything cached for a session."""
        for entry in [entry for entry in self._cache if entry[0] == key]:
            self._held -= self._cache.pop(entry).nbytes

    @property
    def nbytes(self) -> int:
        """Bytes held by the cache."""
        return self._held

    def _encode(self, pixels: NDArray[np.uint8]) -> ImageFeatures:
        image = torch.from_numpy(pixels).to(self._device).permute(2, 0, 1).float()
        levels = self._model.vision_encoder(((image - self._mean) / self._std)[None]).fpn_hidden_states
        decoder = self._model.mask_decoder
        return ImageFeatures(fine=decoder.conv_s0(levels[0]), middle=decoder.conv_s1(levels[1]), top=levels[2],
                             pixels=pixels if self._keep_pixels else None)

    def _store(self, entry: tuple[str, int], features: ImageFeatures) -> None:
        self._cache[entry] = features
        self._held += features.nbytes
        while self._held > self._cache_bytes and len(self._cache) > 1:
            _, evicted = self._cache.popitem(last=False)
            self._held -= evicted.nbytes
