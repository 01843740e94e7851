"""How large a JPEG, PNG or WebP says it is. Only its first bytes are read, here; it is decoded in a process of its own."""

from __future__ import annotations

import struct

from sam_service.errors import NotAVideo
from sam_service.video.pictures import DAMAGED

_NO_SIZE = frozenset({0xC4, 0xC8, 0xCC})  # among the markers of a JPEG that look like the start of a picture


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, before a picture is turned upright. Raises NotAVideo for what is no such picture."""
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
            return int(width), int(height)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        pass
    raise NotAVideo("the picture is no JPEG, PNG or WebP that can be decoded", code=DAMAGED)


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        if data[at] != 0xFF:
            raise IndexError
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in _NO_SIZE:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return int(width), int(height)
        at += 2 + max(2, int(struct.unpack_from(">H", data, at + 2)[0]))


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int(struct.unpack_from("<I", data, 21)[0])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return int(width) & 0x3FFF, int(height) & 0x3FFF
    raise IndexError
