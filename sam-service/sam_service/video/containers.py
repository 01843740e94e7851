"""What kind of file this is, by its first bytes and never by its name.

FFmpeg also opens playlists, concatenation scripts, subtitles and still images, some of which name further files to read.
Only the containers listed here ever reach it, and each reaches the one demuxer that is named for it.
"""

from __future__ import annotations

import os
from enum import StrEnum

SNIFF_BYTES = 2048
"""How many bytes from the start of a file `sniff` needs."""

_IMAGE_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heif", b"heim", b"heis", b"heix", b"mif1", b"msf1"})
_FIRST_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"pnot", b"sidx"})
_MOST_BOXES = 10_000
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
    MXF = "mxf"
    Y4M = "y4m"
    GIF = "gif"
    APNG = "animated-png"
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
    Container.MPEG_VIDEO: "mpegvideo", Container.MXF: "mxf", Container.Y4M: "yuv4mpegpipe", Container.APNG: "apng",
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
    if head.startswith(_PNG):
        return Container.APNG if _is_animated(head) else None
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
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", Container.MXF),
    (b"YUV4MPEG2 ", Container.Y4M),
)
_PNG = b"\x89PNG\r\n\x1a\n"

_PICTURE = "a single picture ({}); a clip of pictures is a folder, a ZIP archive or several parts `file`"
_SOUND = "sound without pictures ({})"
_REFUSED = (
    (0, b"\xff\xd8\xff", _PICTURE.format("JPEG")), (0, _PNG, _PICTURE.format("PNG")), (8, b"WEBP", _PICTURE.format("WebP")),
    (0, b"BM", _PICTURE.format("BMP")), (0, b"II*\0", _PICTURE.format("TIFF")), (0, b"MM\0*", _PICTURE.format("TIFF")),
    (4, b"ftypavif", _PICTURE.format("AVIF")), (4, b"ftypavis", "an animated AVIF"),
    (4, b"ftyphe", _PICTURE.format("HEIC")), (4, b"ftypmif1", _PICTURE.format("HEIF or AVIF")),
    (8, b"WAVE", _SOUND.format("WAV")), (0, b"ID3", _SOUND.format("MP3")), (0, b"fLaC", _SOUND.format("FLAC")),
    (0, b".RMF", "RealMedia"), (0, b"nut/multimedia", "NUT"), (0, b"\xb7\xd8\x00\x20\x37\x49\xda\x11", "WTV"),
    (0, b"\0\0\1\xb0", "a bare MPEG-4 stream"), (0, b"\x12\0\x0a", "a bare AV1 stream"), (4, b"RED", "R3D, raw data"),
    (0, b"#EXTM3U", "a playlist, which only names videos"), (0, b"ffconcat", "a list, which only names videos"),
    (0, b"version https://git-lfs", "a pointer of Git LFS and not the file itself; `git lfs pull` fetches it"),
    (0, b"<!doctype html", "a web page and not the video; the download went wrong"),
    (0, b"<html", "a web page and not the video; the download went wrong"), (0, b"<?xml", "XML"), (0, b"%pdf", "PDF"),
    (0, b"\x1f\x8b", "gzip; pack the pictures as ZIP"), (0, b"7z\xbc\xaf", "7z; pack the pictures as ZIP"),
    (0, b"rar!", "RAR; pack the pictures as ZIP"), (257, b"ustar", "TAR; pack the pictures as ZIP"),
)


def name_of(head: bytes) -> str | None:
    """What a file that `sniff` does not accept is, in words, by its first bytes; None where it is not known."""
    lower = head.lower()
    return next((name for at, magic, name in _REFUSED if lower.startswith(magic.lower(), at)), None)


def _is_animated(head: bytes) -> bool:
    """Whether a PNG says, before its first pixels, that it is animated."""
    at = len(_PNG)
    while (name := head[at + 4 : at + 8]) and name != b"IDAT":
        if name == b"acTL":
            return True
        at += 12 + int.from_bytes(head[at : at + 4])
    return False


def index_place(descriptor: int) -> tuple[int, int] | None:
    """Where in an open MP4 the box lies that says where its frames are, and its size, both in bytes; None where there is none.

    Only the names and sizes of boxes are read.
    """
    end, at = os.fstat(descriptor).st_size, 0
    for _ in range(_MOST_BOXES):
        head = os.pread(descriptor, 16, at)
        size = int.from_bytes(head[:4])
        if size == 1:
            size = int.from_bytes(head[8:16])
        if head[4:8] == b"moov":
            return at, size or end - at
        if size < 8 or at + size >= end:
            return None
        at += size
    return None


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
