"""Dolby Vision whose pictures have colours of their own kind, which FFmpeg's decoders show green and purple.

Most Dolby Vision has ordinary HDR pictures underneath (phones, discs), and those are shown. Profile 5, and profile 10 without
compatibility, which streaming services use, have not. The file's description says which it is.
"""

from __future__ import annotations

import os

from sam_service.errors import NotAVideo
from sam_service.video.containers import Container, index_place

_NAMES = (b"dvcC", b"dvvC")  # of the description, in MP4 and in Matroska
_DATA = b"\x41\xed"  # Matroska's element with the description's bytes, behind the one with its name
_NEAR_BYTES = 16
_MOST_BYTES = 8 << 20  # of an MP4's index that are looked through
_HEAD_BYTES = 1 << 20  # of a Matroska file
_CONVERT = ("ffmpeg -i INPUT -vf libplacebo=colorspace=bt709:color_primaries=bt709:color_trc=bt709:format=yuv420p -c:v libx264 "
            "-crf 16 OUTPUT.mp4")


def require_base_colours(descriptor: int, container: Container) -> None:
    """Raise NotAVideo (code `codec_not_accepted`) where an open file says that it is Dolby Vision without ordinary pictures."""
    for description in _descriptions(descriptor, container):
        profile, compatible = description[2] >> 1, description[4] >> 4
        if profile == 5 or (profile == 10 and not compatible):
            raise NotAVideo(f"the video is Dolby Vision of profile {profile}, whose colours FFmpeg's decoders show wrong; an "
                            f"ffmpeg with libplacebo converts it: `{_CONVERT}`", code="codec_not_accepted")


def _descriptions(descriptor: int, container: Container) -> list[bytes]:
    """The first five bytes of each description of Dolby Vision: version (two), profile and flags (two), compatibility."""
    if container is Container.MP4 and (place := index_place(descriptor)) is not None:
        data = os.pread(descriptor, min(place[1], _MOST_BYTES), place[0])
    elif container is Container.MATROSKA:
        data = os.pread(descriptor, _HEAD_BYTES, 0)
    else:
        return []
    found = []
    for name in _NAMES:
        _, name_there, rest = data.partition(name)
        if container is Container.MATROSKA:
            between, name_there, rest = rest.partition(_DATA)
            rest = rest[1:] if len(between) < _NEAR_BYTES else b""  # one byte is the element's length
        if name_there and len(rest) >= 5 and rest[0] == 1:
            found.append(rest[:5])
    return found
