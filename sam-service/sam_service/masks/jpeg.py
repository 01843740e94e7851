"""A client's JPEG without what costs time and makes no picture."""

from __future__ import annotations

import struct

from sam_service.errors import InvalidInput
from sam_service.masks import exif

MAX_SEGMENTS, MAX_SCANS = 1000, 64
_START, _SCAN, _END, _EXIF = 0xD8, 0xDA, 0xD9, 0xE1
_APPLICATION, _COMMENT = range(0xE0, 0xF0), 0xFE
_KEPT = (0xE0, 0xEE)  # JFIF and Adobe: they say what the colours mean


def plain_jpeg(data: bytes) -> bytes:
    """The same picture without comments, thumbnails and profiles.

    A few kilobytes may hold thousands of scans, each of which takes a pass over all pixels, or many thousands of segments.
    Raises InvalidInput (field `mask`) for one of more than 64 scans or 1000 segments, for one that is damaged, and
    for one that its EXIF data turn.
    """
    kept, at = [data[:2]], 2
    for _ in range(MAX_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] in (0, _START, _END, 0xFF):
            raise _damaged("is not a readable JPEG")
        kind = data[at + 1]
        end = at + 2 + int(struct.unpack_from(">H", data, at + 2)[0])
        if kind == _SCAN:
            if data.count(b"\xff\xda", at) > MAX_SCANS:
                raise _damaged(f"is a JPEG of more than {MAX_SCANS} scans")
            return b"".join([*kept, data[at:]])
        if kind == _EXIF and data.startswith(exif.HEAD, at + 4):
            exif.require_upright(data[at + 4 + len(exif.HEAD):end])
        if kind in _KEPT or (kind not in _APPLICATION and kind != _COMMENT):
            kept.append(data[at:end])
        at = end
    raise _damaged(f"is a JPEG of more than {MAX_SEGMENTS} segments")


def _damaged(what: str) -> InvalidInput:
    return InvalidInput(f"the mask {what}", field="mask")
