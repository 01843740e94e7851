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
from torch.nn import functional as F
from transformers import Sam2VideoModel

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a session, read only when its features are not cached.

    width, height: the session's frame size in pixels. pixels: gives the (S, S, 3) uint8 RGB input of the network.
    other: gives that of another frame of the session, for models that look at motion; None where there is no other.
    """

    index: int
    width: int
    height: int
    pixels: Callable[[], NDArray[np.uint8]]
    other: Callable[[int], NDArray[np.uint8]] | None = None


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the image encoder says of a frame, shared by all objects.

    fine: (1, C/8, 4h, 4w) and middle: (1, C/4, 2h, 2w), already projected for the mask decoder; top: (1, C, h, w).
    pixels: (S, S, 3) uint8, and colour: (1, 3, 4h, 4w) normalised, kept only for models that take hints.
    """

    fine: Tensor
    middle: Tensor
    top: Tensor
    pixels: NDArray[np.uint8] | None
    colour: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        tensors = [t for t in (self.fine, self.middle, self.top, self.colour) if t is not None]
        return sum(t.numel() * t.element_size() for t in tensors) + (0 if self.pixels is None else self.pixels.nbytes)


def to_square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Squash an (H, W, 3) uint8 RGB picture to (S, S, 3), bicubic with antialiasing, as Meta's predictor does."""
    return np.array(Image.fromarray(image).resize((side, side)))


class FeatureCache:
    """Features by session, frame and input size, least recently used ones dropped beyond `max_bytes`.

    Filled and emptied by the device's owner; other threads may ask what it holds.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[str, int, int], ImageFeatures] = OrderedDict()
        self.nbytes = 0
        """Bytes held."""

    def get(self, entry: tuple[str, int, int]) -> ImageFeatures | None:
        """The features of (session, frame, input size), which are then the last ones used."""
        features = self._entries.get(entry)
        if features is not None:
            self._entries.move_to_end(entry)
        return features

    def put(self, entry: tuple[str, int, int], features: ImageFeatures) -> None:
        """Keep features; the newest stay whatever their size."""
        self._entries[entry] = features
        self.nbytes += features.nbytes
        while self.nbytes > self._max_bytes and len(self._entries) > 1:
            self.nbytes -= self._entries.popitem(last=False)[1].nbytes

    def holds(self, entry: tuple[str, int, int]) -> bool:
        """Whether features are here, so that the frame need not be read."""
        return entry in self._entries

    def forget(self, key: str) -> None:
        """Drop all of a session."""
        for entry in [entry for entry in self._entries if entry[0] == key]:
            self.nbytes -= self._entries.pop(entry).nbytes


class ImageEncoder:
    """The model's image encoder behind a cache."""

    def __init__(self, model: Sam2VideoModel, device: torch.device, cache: FeatureCache, *, side: int,
                 keep_pixels: bool) -> None:
        self._model = model
        self._device = device
        self._cache = cache
        self._side = side
        self._keep_pixels = keep_pixels
        self._mean = torch.tensor(MEAN, device=device)[:, None, None] * 255
        self._std = torch.tensor(STD, device=device)[:, None, None] * 255

    def __call__(self, key: str, frame: Frame) -> ImageFeatures:
        """The features of a frame of the session `key`, from the cache or computed."""
        entry = (key, frame.index, self._side)
        features = self._cache.get(entry)
        if features is None:
            features = self.encode(frame.pixels())
            self._cache.put(entry, features)
        return features

    def encode(self, pixels: NDArray[np.uint8]) -> ImageFeatures:
        """Encode an (S, S, 3) uint8 RGB picture."""
        image = torch.from_numpy(pixels).to(self._device).permute(2, 0, 1).float()
        normalised = ((image - self._mean) / self._std)[None]
        levels = self._model.vision_encoder(normalised).fpn_hidden_states
        decoder = self._model.mask_decoder
        return ImageFeatures(fine=decoder.conv_s0(levels[0]), middle=decoder.conv_s1(levels[1]), top=levels[2],
                             pixels=pixels if self._keep_pixels else None,
                             colour=F.avg_pool2d(normalised, 4) if self._keep_pixels else None)

    def pixels_of(self, key: str, frame: Frame, index: int) -> NDArray[np.uint8] | None:
        """The (S, S, 3) input of another frame of the session: kept beside its features, or read again."""
        features = self._cache.get((key, index, self._side))
        if features is not None and features.pixels is not None:
            return features.pixels
        return None if frame.other is None else frame.other(index)
