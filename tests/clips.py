"""Real video files for the tests, rendered by OpenCV and, where OpenCV cannot, put together or patched by hand.

The picture is a textured square that moves over a textured ground; where it is, is known for every frame. The
frame's number is painted in it as well, as a row of 8 black or white cells that survives every codec used here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

QUARTER_TURNS = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
MP4_TICKS = 12800
"""Ticks a second in the mp4 files that OpenCV writes at 25 frames a second."""


def texture(width: int, height: int, seed: int) -> Image:
    """Smooth coloured noise: uint8 (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(40, 216, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def mask_of(index: int, width: int, height: int) -> Mask:
    """Where the square is in frame `index`: bool (height, width)."""
    side = max(1, min(width, height) // 3)
    x = (3 * index) % max(1, width - side)
    y = (height - side) // 2
    mask = np.zeros((height, width), np.bool_)
    mask[y : y + side, x : x + side] = True
    return mask


def picture(index: int, width: int = 160, height: int = 120) -> Image:
    """Frame `index` as BGR: uint8 (height, width, 3)."""
    image = texture(width, height, seed=1)
    mask = mask_of(index, width, height)
    image[mask] = 255 - texture(width, height, seed=2)[mask] // 4
    cell = width // 8
    for bit in range(8):
        image[: cell // 2, bit * cell : (bit + 1) * cell] = 255 if index >> bit & 1 else 0
    return image


def number_in(image: npt.NDArray[np.generic]) -> int:
    """The frame number that is painted in `image` (H, W, 3)."""
    cell = image.shape[1] / 8
    row = image[int(cell / 4)].mean(axis=1)
    return sum(1 << bit for bit in range(8) if row[int((bit + 0.5) * cell)] > 128)


def write_video(
    path: Path, frames: int = 12, width: int = 160, height: int = 120, *, fps: float = 25, codec: str = "mp4v"
) -> Path:
    """Render a clip with OpenCV; the ending of `path` chooses the container. OpenCV rounds odd sizes down to even."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    assert writer.isOpened(), f"OpenCV cannot write {codec}"
    for index in range(frames):
        writer.write(picture(index, width, height))
    writer.release()
    return path


def jpeg_frames(frames: int, width: int = 160, height: int = 120) -> list[bytes]:
    """The pictures as JPEGs, for `write_avi`."""
    return [cv2.imencode(".jpg", picture(index, width, height))[1].tobytes() for index in range(frames)]


def write_avi(path: Path, jpegs: Sequence[bytes], width: int = 160, height: int = 120, *, fps: int = 25) -> Path:
    """Put `jpegs` into an AVI of exactly `width` x `height`: odd sizes and damaged pictures as they are."""
    main = struct.pack("<14I", 10**6 // fps, 0, 0, 0x10, len(jpegs), 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = struct.pack(
        "<4s4sIHHIIIIIIIIhhhh", b"vids", b"MJPG", 0, 0, 0, 0, 1, fps, 0, len(jpegs), 0, 0, 0, 0, 0, 0, 0
    )
    bitmap = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3, 0, 0, 0, 0)
    streams = _list(b"strl", _riff(b"strh", stream) + _riff(b"strf", bitmap))
    header = _list(b"hdrl", _riff(b"avih", main) + streams)
    chunks = [_riff(b"00dc", jpeg) for jpeg in jpegs]
    offsets = np.cumsum([4] + [len(chunk) for chunk in chunks])
    index = b"".join(
        struct.pack("<4sIII", b"00dc", 0x10, offset, len(jpeg)) for offset, jpeg in zip(offsets, jpegs, strict=False)
    )
    path.write_bytes(_riff(b"RIFF", b"AVI " + header + _list(b"movi", b"".join(chunks)) + _riff(b"idx1", index)))
    return path


def rotated(source: Path, path: Path, degrees: int) -> Path:
    """Copy an mp4 as a phone writes it: the stored pictures are to be turned clockwise by `degrees` for display."""
    data = bytearray(source.read_bytes())
    a, b, c, d = (value << 16 for value in QUARTER_TURNS[degrees])
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    struct.pack_into(">9i", data, matrix, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def retimed(source: Path, path: Path, durations: Sequence[int]) -> Path:
    """Copy an mp4 with a variable frame rate: frame k lasts `durations[k]` ticks of 1/`MP4_TICKS` second."""
    data = bytearray(source.read_bytes())
    table = struct.pack(">4sII", b"stts", 0, len(durations)) + b"".join(struct.pack(">II", 1, d) for d in durations)
    start = data.index(b"stts") - 4
    (old_size,) = struct.unpack_from(">I", data, start)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):  # OpenCV puts them after the pictures: no offset moves
        position = data.index(name) - 4
        (size,) = struct.unpack_from(">I", data, position)
        struct.pack_into(">I", data, position, size + len(table) + 4 - old_size)
    data[start : start + old_size] = struct.pack(">I", len(table) + 4) + table
    data[data.index(b"edts") : data.index(b"edts") + 4] = b"free"  # the edit list would cut at the old duration
    path.write_bytes(data)
    return path


def damaged(source: Path, path: Path, first: float, last: float) -> Path:
    """Copy a file with the bytes between the fractions `first` and `last` of its length set to zero."""
    data = bytearray(source.read_bytes())
    low, high = int(len(data) * first), int(len(data) * last)
    data[low:high] = bytes(high - low)
    path.write_bytes(data)
    return path


def cut_off(source: Path, path: Path, fraction: float) -> Path:
    """Copy the first `fraction` of a file, as an upload that broke off."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def _riff(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)


def _list(name: bytes, data: bytes) -> bytes:
    return _riff(b"LIST", name + data)
