"""Files that a stranger might send. Made here, from real clips and by hand; none is kept in the repository."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests import clips

TEXTS: dict[str, bytes] = {
    "m3u8": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "m3u8 with a mark": b"\xef\xbb\xbf#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:1/a.ts\n",
    "mpd": b'<?xml version="1.0"?><MPD><Period><BaseURL>file:///etc/</BaseURL></Period></MPD>',
    "concat script": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "edit list": b"# mpv EDL v0\nfile:///etc/passwd,0,1\n",
    "session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5000 RTP/AVP 96\n",
    "subtitles": b"1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    "styled subtitles": b"[Script Info]\nScriptType: v4.00+\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "html": b"<!doctype html><video src='file:///etc/passwd'></video>",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "gif": b"GIF89a" + bytes(100),
    "webp": b"RIFF\x00\x01\x00\x00WEBPVP8 " + bytes(100),
    "wave": b"RIFF\x00\x01\x00\x00WAVEfmt " + bytes(100),
    "heic": b"\x00\x00\x00\x18ftypheic" + bytes(100),
    "zip": b"PK\x03\x04" + bytes(100),
    "gzip": b"\x1f\x8b\x08" + bytes(100),
    "tar": b"video.mp4" + bytes(248) + b"ustar\x0000" + bytes(255),
    "program": b"\x7fELF\x02\x01\x01" + bytes(100),
    "pdf": b"%PDF-1.7\n" + bytes(100),
}
"""What FFmpeg, or somebody, could open, and is no video that this service takes."""

MAGIC: dict[str, bytes] = {
    "mp4": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom",
    "matroska": b"\x1a\x45\xdf\xa3",
    "avi": b"RIFF\x00\x10\x00\x00AVI LIST",
    "flv": b"FLV\x01\x05\x00\x00\x00\x09",
    "mpeg-ps": b"\x00\x00\x01\xba",
}


def noise(magic: bytes, size: int = 60_000) -> bytes:
    """Random bytes that begin as a video does."""
    return magic + random.Random(1).randbytes(size)


def transport_noise(packets: int = 400) -> bytes:
    """Random packets of a transport stream."""
    source = random.Random(2)
    return b"".join(b"\x47" + source.randbytes(187) for _ in range(packets))


def playlist_behind_magic() -> bytes:
    """A playlist that begins as an mp4 does."""
    return MAGIC["mp4"] + b"\n#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n" * 50


def pretending_jpeg(width: int, height: int) -> bytes:
    """A JPEG of 160 x 120 pixels whose header says `width` x `height`."""
    data = bytearray(clips.jpeg_frames(1)[0])
    start = data.index(b"\xff\xc0") + 5
    struct.pack_into(">HH", data, start, height, width)
    return bytes(data)


def bomb(path: Path, side: int) -> bytes:
    """A video of one picture of `side` x `side` pixels, by the container's word and the picture's."""
    return clips.write_avi(path, [pretending_jpeg(side, side)], side, side).read_bytes()


def bomb_behind_a_small_size(path: Path, at: int, side: int) -> bytes:
    """A video that says 160 x 120 and holds a picture of `side` x `side` pixels as frame `at`."""
    jpegs = clips.jpeg_frames(12)
    jpegs[at] = pretending_jpeg(side, side)
    return clips.write_avi(path, jpegs).read_bytes()


def claimed_frames(path: Path, count: int) -> bytes:
    """A video of 12 frames whose header says `count`."""
    data = bytearray(clips.write_avi(path, clips.jpeg_frames(12)).read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, count)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, count)
    del data[data.index(b"idx1") :]
    return bytes(data)


def retimed(path: Path, ticks: list[int]) -> bytes:
    """An mp4 whose frames last so many ticks each."""
    source = clips.write_video(path, frames=len(ticks))
    return clips.retimed(source, path.with_suffix(".retimed.mp4"), ticks).read_bytes()


def encoded(path: Path, codec: str, frames: int = 12) -> bytes:
    """A real clip."""
    return clips.write_video(path, frames, codec=codec).read_bytes()


def flipped(path: Path, seed: int) -> bytes:
    """An mp4 with 30 of its bytes changed."""
    data, source = bytearray(encoded(path, "mp4v")), random.Random(seed)
    for _ in range(30):
        data[source.randrange(32, len(data))] ^= 1 << source.randrange(8)
    return bytes(data)


def with_attachment(path: Path) -> bytes:
    """A Matroska file with a second file attached, whose name climbs out of any folder."""
    data = encoded(path, "mp4v")
    attached = _ebml(0x61A7, _ebml(0x466E, b"../../attached.txt") + _ebml(0x4660, b"text/plain") + _ebml(0x465C, b"boo")
                     + _ebml(0x46AE, b"\x07"))
    start = data.index(b"\x18\x53\x80\x67")
    size = int.from_bytes(data[start + 5 : start + 12], "big")
    extra = _ebml(0x1941A469, attached)
    length = b"\x01" + (size + len(extra)).to_bytes(7, "big")
    end = start + 12 + size
    return data[: start + 4] + length + data[start + 12 : end] + extra + data[end:]


def _ebml(identifier: int, data: bytes) -> bytes:
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (0x10000000 | len(data)).to_bytes(4, "big") + data


def png(width: int, height: int, *, rows: int | None = None, extra: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """An 8-bit grey PNG of zeros; `rows` of them are in it, all by default. extra: chunks before them, by name."""
    zeros = zlib.compressobj(9)
    body = b"".join(zeros.compress(bytes(width + 1)) for _ in range(height if rows is None else rows)) + zeros.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), *extra, (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)


def picture(form: str, *, labels: bool = False, claimed: int | None = None) -> bytes:
    """A picture of 160 x 120 that is no mask: grey in all shades, or three `labels`. claimed: the side in its header."""
    rows, columns = np.mgrid[:120, :160]
    pixels = columns // 54 if labels else (columns + rows) * 255 // 279
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, form)
    data = bytearray(buffer.getvalue())
    if claimed is not None:
        at = data.index(b"\xff\xc0") + 5
        data[at:at + 4] = claimed.to_bytes(2, "big") * 2
    return bytes(data)


def scans(count: int) -> bytes:
    """A grey JPEG of 160 x 120 with `count` more scans that change nothing: 13 bytes each, and a pass over the picture."""
    buffer = io.BytesIO()
    Image.new("L", (160, 120), 255).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    table = b"\xff\xc4" + struct.pack(">H", 20) + b"\x10\x01" + bytes(15) + b"\xe0"  # one code: so many blocks end here
    scan = b"\xff\xda" + struct.pack(">H", 8) + bytes([1, 1, 0, 1, 63, 0]) + b"\x7f\xff\x00"
    return data[:-2] + table + scan * count + data[-2:]


def archive(path: Path, members: dict[str, bytes]) -> bytes:
    """A zip of these members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path.read_bytes()


def archive_bomb(path: Path) -> bytes:
    """A zip of 1 MiB whose one member has 257 MiB."""
    return archive(path, {"0.png": bytes(257 << 20)})
