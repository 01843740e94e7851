"""How a decoded picture is to be shown: upright, with square pixels, and in the range of ordinary displays."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import ImageFilter

_LARGEST_ASPECT = 8
PQ, HLG = 16, 18
"""The transfer functions of high dynamic range, as H.273 numbers them: of HDR10 and Dolby Vision, of broadcast and phones."""

HDR = (PQ, HLG)

_WHITE_NITS = 203.0  # diffuse white in HDR (ITU-R BT.2408)
_KNEE = 0.6  # of white: what is darker stays as it is, what is brighter is bent towards white
_LUT_SIZE = 65
_FROM_2020 = np.array(((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)))


@dataclass(frozen=True, slots=True)
class Turn:
    """One of the eight ways in which a picture can lie: first its axes are exchanged, then it is mirrored along x and y."""

    transposed: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of a picture of that size once it is turned, and the other way round."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Turn a picture (H, W, channels)."""
        if self.transposed:
            picture = picture.transpose(1, 0, 2)
        if self.mirror_x:
            picture = picture[:, ::-1]
        if self.mirror_y:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


UPRIGHT = Turn()


def turn_of(matrix: bytes) -> Turn:
    """The turn that a display matrix asks for: nine 32-bit integers in this machine's order. Slanted ones go to the nearest."""
    try:
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    except struct.error:
        return UPRIGHT
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)


def square_pixels(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size of a picture shown with square pixels. aspect: a pixel's width divided by its height; nonsense counts as 1."""
    if aspect is None or not Fraction(1, _LARGEST_ASPECT) <= aspect <= _LARGEST_ASPECT:
        return width, height
    return max(1, round(width * aspect)), height


@cache
def tone_map(transfer: int) -> ImageFilter.Color3DLUT:
    """A filter for RGB pictures that brings a transfer function of `HDR` to the brightness of ordinary displays.

    PQ's colours are brought from BT.2020 to BT.709 as well. HLG's stay as they are, which that standard is made for.
    """
    signal = np.linspace(0, 1, _LUT_SIZE)
    blue, green, red = np.meshgrid(signal, signal, signal, indexing="ij")
    colours = np.stack((red, green, blue), -1)
    nits = _nits_of_pq(colours) @ _FROM_2020.T if transfer == PQ else _nits_of_hlg(colours)
    mapped = _bent(nits / _WHITE_NITS)
    return ImageFilter.Color3DLUT(_LUT_SIZE, (mapped ** (1 / 2.2)).astype(np.float32).reshape(-1))


def _bent(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Light (..., 3), white at 1, brought to 0 to 1: what is brighter than the knee is bent, each colour keeps its hue."""
    brightest = np.maximum(light.max(-1, keepdims=True), 1e-6)
    over = np.maximum(brightest - _KNEE, 0) / (1 - _KNEE)
    softened = np.minimum(brightest, _KNEE) + (1 - _KNEE) * (1 - np.exp(-over))
    return np.asarray(np.clip(light * softened / brightest, 0, 1))


def _nits_of_pq(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Luminance in cd/m² for a PQ signal of 0 to 1 (SMPTE ST 2084)."""
    root = signal ** (1 / 78.84375)
    return np.asarray(10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125))


def _nits_of_hlg(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Luminance in cd/m², for each channel, of HLG signals (..., 3) of 0 to 1 on a display of 1000 cd/m² (ITU-R BT.2100)."""
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    luminance = np.maximum(scene @ np.array((0.2627, 0.6780, 0.0593)), 1e-6)
    return np.asarray(1000 * luminance[..., None] ** 0.2 * scene)
