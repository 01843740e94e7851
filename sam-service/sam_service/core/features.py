"""A frame becomes image features, and features are kept within a byte budget.

S: side of the model's square input in pixels. h = w = S/16. C: hidden width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Sam2VideoModel

from sam_service.core.compiling import is_compiled
from sam_service.core.zoom import Window

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Entry = tuple[str, int, int]
"""Whose features: session, frame, side of the network's input."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a session, read only when its features are not cached.

    width, height: the session's frame size in pixels. pixels: gives the (S, S, 3) uint8 RGB input of the network.
    other: gives that of another frame of the session, for models that look at motion; None where there is no other.
    part: gives (h, w, 3) of a part of the frame in its own pixels, for models that look closer; None where they cannot.
    beside: which other frame a prompt on this one may be compared with, for models that look at motion (`motion.py`).
    """

    index: int
    width: int
    height: int
    pixels: Callable[[], NDArray[np.uint8]]
    other: Callable[[int], NDArray[np.uint8]] | None = None
    part: Callable[[Window], NDArray[np.uint8]] | None = None
    beside: int | None = None


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
        return sum(t.numel() * t.element_size() for t in self.tensors().values()) + (
            0 if self.pixels is None else self.pixels.nbytes)

    def tensors(self) -> dict[str, Tensor]:
        """What is here beside the pixels, by name."""
        named = {"fine": self.fine, "middle": self.middle, "top": self.top, "colour": self.colour}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def to_square_fast(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The same by averaging areas, in a third of the time; for the nano model, which nobody compares with Meta's."""
    method = cv2.INTER_AREA if min(image.shape[:2]) >= side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), np.uint8)


class SecondTier(Protocol):
    """Where features go that memory has no room for (`feature_files.py`)."""

    def holds(self, entry: Entry) -> bool: ...
    def save(self, entry: Entry, features: ImageFeatures) -> None: ...
    def load(self, entry: Entry, device: torch.device) -> ImageFeatures | None: ...
    def forget(self, key: str) -> None: ...


def to_square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Squash an (H, W, 3) uint8 RGB picture to (S, S, 3), bicubic with antialiasing, as Meta's predictor does."""
    return np.array(Image.fromarray(image).resize((side, side)))


class FeatureCache:
    """Features in memory, least recently used ones moved to `overflow` beyond `max_bytes`, or dropped where there is none.

    Filled and emptied by the device's owner; other threads may ask what it holds.
    """

    def __init__(self, max_bytes: int, overflow: SecondTier | None = None) -> None:
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._entries: OrderedDict[Entry, ImageFeatures] = OrderedDict()
        self.nbytes = 0
        """Bytes held in memory."""

    def get(self, entry: Entry, device: torch.device) -> ImageFeatures | None:
        """The features of an entry, which are then the last ones used; from the second tier they come back to `device`."""
        features = self._entries.get(entry)
        if features is not None:
            self._entries.move_to_end(entry)
            return features
        features = None if self._overflow is None else self._overflow.load(entry, device)
        if features is not None:
            self.put(entry, features)
        return features

    def put(self, entry: Entry, features: ImageFeatures) -> None:
        """Keep features; the newest stay whatever their size."""
        self._entries[entry] = features
        self.nbytes += features.nbytes
        while self.nbytes > self._max_bytes and len(self._entries) > 1:
            oldest, dropped = self._entries.popitem(last=False)
            self.nbytes -= dropped.nbytes
            if self._overflow is not None:
                self._overflow.save(oldest, dropped)

    def holds(self, entry: Entry) -> bool:
        """Whether features are here, so that the frame need not be read."""
        return entry in self._entries or (self._overflow is not None and self._overflow.holds(entry))

    def forget(self, key: str) -> None:
        """Drop all of a session."""
        for entry in [entry for entry in self._entries if entry[0] == key]:
            self.nbytes -= self._entries.pop(entry).nbytes
        if self._overflow is not None:
            self._overflow.forget(key)


class ImageEncoder:
    """The model's image encoder behind a cache."""

    def __init__(self, model: Sam2VideoModel, device: torch.device, cache: FeatureCache, *, side: int,
                 keep_pixels: bool) -> None:
        self._model = model
        self._device = device
        self._cache = cache
        self._side = side
        self._compiled = is_compiled(model)
        self._keep_pixels = keep_pixels
        self._mean = torch.tensor(MEAN, device=device)[:, None, None] * 255
        self._std = torch.tensor(STD, device=device)[:, None, None] * 255

    def __call__(self, key: str, frame: Frame) -> ImageFeatures:
        """The features of a frame of the session `key`, from the cache or computed."""
        entry = (key, frame.index, self._side)
        features = self._cache.get(entry, self._device)
        if features is None:
            features = self.encode(frame.pixels())
            self._cache.put(entry, features)
        return features

    def encode(self, pixels: NDArray[np.uint8]) -> ImageFeatures:
        """Encode an (S, S, 3) uint8 RGB picture."""
        image = torch.from_numpy(pixels).to(self._device).permute(2, 0, 1).float()
        normalised = ((image - self._mean) / self._std)[None]
        if self._compiled:
            torch.compiler.cudagraph_mark_step_begin()
        fine, middle, top = self._levels(normalised)
        return ImageFeatures(fine=fine, middle=middle, top=top,
                             pixels=pixels if self._keep_pixels else None,
                             colour=F.avg_pool2d(normalised, 4) if self._keep_pixels else None)

    def _levels(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(1, 3, S, S) -> fine, middle and top."""
        found = self._model.vision_encoder(image)
        if isinstance(found, tuple):  # `hiera.py` has projected them
            fine, middle, top = (level.clone() for level in found) if self._compiled else found
            return fine, middle, top
        levels, decoder = found.fpn_hidden_states, self._model.mask_decoder
        top = levels[2].clone() if self._compiled else levels[2]
        return _projected(levels[0], decoder.conv_s0), _projected(levels[1], decoder.conv_s1), _plain(top)

    def pixels_of(self, key: str, frame: Frame, index: int) -> NDArray[np.uint8] | None:
        """The (S, S, 3) input of another frame of the session: kept beside its features, or read again."""
        features = self._cache.get((key, index, self._side), self._device)
        if features is not None and features.pixels is not None:
            return features.pixels
        return None if frame.other is None else frame.other(index)


def _projected(level: Tensor, convolution: nn.Conv2d) -> Tensor:
    """A 1 x 1 convolution in the precision of what goes in."""
    weight, bias = convolution.weight, convolution.bias
    if level.dtype is torch.float32 or torch.is_autocast_enabled(level.device.type):
        return _plain(convolution(level))
    return _plain(F.conv2d(level, weight.to(level.dtype), None if bias is None else bias.to(level.dtype)))


def _plain(level: Tensor) -> Tensor:
    """float32 of the encoder's bfloat16, laid out as it comes back from disk."""
    return level if level.dtype is torch.float32 or torch.is_autocast_enabled(level.device.type) else level.float().contiguous()
