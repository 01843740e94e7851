"""What kind of file this is, told by its first bytes and never by its name.

The decoder behind OpenCV also opens playlists, concatenation scripts, subtitles and still images, some of which name
further files to read. Only the containers listed here ever reach it.
"""

from __future__ import annotations

from enum import StrEnum

SNIFF_BYTES = 600
"""How many bytes from the start of a file `sniff` needs."""

_IMAGE_BRANDS = frozenset({b"avif", b"heic", b"heif", b"heim", b"heis", b"heix", b"mif1"})
_OLD_QUICKTIME = frozenset({b"moov", b"mdat", b"wide"})


class Container(StrEnum):
    """The containers that are accepted."""

    MP4 = "mp4"
    MATROSKA = "matroska"
    AVI = "avi"
    MPEG_TS = "mpeg-ts"
    MPEG_PS = "mpeg-ps"
    FLV = "flv"

    @property
    def lists_every_frame(self) -> bool:
        """Whether the frame count comes from a table of frames, and not from duration times frame rate."""
        return self in (Container.MP4, Container.AVI)


def sniff(head: bytes) -> Container | None:
    """Return the container that a file starting with `head` (`SNIFF_BYTES` bytes) is, None for anything else."""
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _IMAGE_BRANDS else Container.MP4
    if head[4:8] in _OLD_QUICKTIME:
        return Container.MP4
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return Container.MATROSKA
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Container.AVI
    if head[:4] == b"\x00\x00\x01\xba":
        return Container.MPEG_PS
    if head[:4] == b"FLV\x01":
        return Container.FLV
    if _is_transport_stream(head):
        return Container.MPEG_TS
    return None


def _is_transport_stream(head: bytes) -> bool:
    """Whether `head` has the sync byte at the start of three packets of 188 bytes, or of 192 as camcorders write."""
    return any(
        len(head) > start + 2 * step and all(head[start + n * step] == 0x47 for n in range(3))
        for start, step in ((0, 188), (4, 192))
    )
