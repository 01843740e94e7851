"""What kind of file this is, by its first bytes and never by its name.

FFmpeg also opens playlists, concatenation scripts, subtitles and still images, some of which name further files to read.
Only the containers listed here ever reach it, and each reaches the one demuxer that is named for it.
"""

from __future__ import annotations

from enum import StrEnum

SNIFF_BYTES = 2048
"""How many bytes from the start of a file `sniff` needs."""

_IMAGE_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heif", b"heim", b"heis", b"heix", b"mif1", b"msf1"})
_FIRST_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"pnot", b"sidx"})
_SYNC, _PACKET_SIZES = 0x47, (188, 192, 204)
_FEWEST_PACKETS, _FEWEST_PACKETS_LATE = 3, 5  # of a transport stream: where it begins with a packet; where in the middle of one


class Container(StrEnum):
    """The containers that are accepted, and collections of pictures."""

    MP4 = "mp4"
    MATROSKA = "matroska"
    AVI = "avi"
    MPEG_TS = "mpeg-ts"
    MPEG_PS = "mpeg-ps"
    FLV = "flv"
    ASF = "asf"
    OGG = "ogg"
    GIF = "gif"
    WEBP = "animated-webp"
    DV = "dv"
    IVF = "ivf"
    H264 = "raw-h264"
    HEVC = "raw-hevc"
    MPEG_VIDEO = "raw-mpeg-video"
    ZIP = "zip"
    FOLDER = "folder"

    @property
    def lists_every_frame(self) -> bool:
        """Whether the frame count comes from a table of frames, and not from duration times frame rate."""
        return self in (Container.MP4, Container.AVI)

    @property
    def is_raw(self) -> bool:
        """Whether it is a codec's bare stream, without times."""
        return self in (Container.H264, Container.HEVC, Container.MPEG_VIDEO)

    @property
    def is_collection(self) -> bool:
        """Whether its frames are picture files, which have no times of their own."""
        return self in (Container.ZIP, Container.FOLDER)


DEMUXERS = {
    Container.MP4: "mov", Container.MATROSKA: "matroska", Container.AVI: "avi", Container.MPEG_TS: "mpegts",
    Container.MPEG_PS: "mpeg", Container.FLV: "flv", Container.ASF: "asf", Container.OGG: "ogg", Container.GIF: "gif",
    Container.DV: "dv", Container.IVF: "ivf", Container.H264: "h264", Container.HEVC: "hevc",
    Container.MPEG_VIDEO: "mpegvideo",
}
"""FFmpeg's name of the one demuxer for each container. Pictures and animated WebP do not go through FFmpeg."""


def sniff(head: bytes) -> Container | None:
    """Return the container that a file starting with `head` (`SNIFF_BYTES` bytes) is, None for anything else."""
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _IMAGE_BRANDS else Container.MP4
    if head[4:8] in _FIRST_BOXES:
        return Container.MP4
    if head[:4] == b"RIFF":
        return _riff(head)
    for magic, container in _MAGIC:
        if head.startswith(magic):
            return container
    if head[:6] in (b"GIF87a", b"GIF89a") and all(int.from_bytes(head[at : at + 2], "little") for at in (6, 8)):
        return Container.GIF
    return _bare_stream(head) or (Container.MPEG_TS if _is_transport_stream(head) else None)


_MAGIC = (
    (b"\x1a\x45\xdf\xa3", Container.MATROSKA),
    (b"\x00\x00\x01\xba", Container.MPEG_PS),
    (b"\x00\x00\x01\xb3", Container.MPEG_VIDEO),
    (b"FLV\x01", Container.FLV),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c", Container.ASF),
    (b"OggS\x00", Container.OGG),
    (b"DKIF\x00\x00", Container.IVF),
    (b"\x1f\x07\x00", Container.DV),
    (b"PK\x03\x04", Container.ZIP),
)


def _riff(head: bytes) -> Container | None:
    """AVI, or a WebP picture whose header says that it is animated."""
    if head[8:12] == b"AVI ":
        return Container.AVI
    animated = head[8:16] == b"WEBPVP8X" and len(head) > 20 and head[20] & 2
    return Container.WEBP if animated else None


def _bare_stream(head: bytes) -> Container | None:
    """H.264 or HEVC without a container: a start code, then a unit with which such a stream begins."""
    start = 4 if head.startswith(b"\x00\x00\x00\x01") else 3 if head.startswith(b"\x00\x00\x01") else 0
    if not start or len(head) < start + 8:
        return None
    first, second = head[start], head[start + 1]
    if first in (0x40, 0x46, 0x4E) and second == 1:  # parameter set, delimiter, information of HEVC
        return Container.HEVC
    if first in (0x67, 0x47, 0x27, 0x09, 0x06):  # parameter set, delimiter, information of H.264
        return Container.H264
    return None


def _is_transport_stream(head: bytes) -> bool:
    """Whether sync bytes follow one another at the distance of packets: of 188 bytes, 192 as camcorders write, or 204.

    A recording may begin in the middle of a packet; then more of them are asked for.
    """
    for size in _PACKET_SIZES:
        for start in range(size):
            found = len(range(start, len(head), size))
            enough = _FEWEST_PACKETS if start in (0, size - 188) else _FEWEST_PACKETS_LATE
            if found >= enough and all(head[at] == _SYNC for at in range(start, len(head), size)):
                return True
    return False
