"""The random numbers that a muxer draws for each WebM file, made fixed: the same pictures are then the same bytes, and a
download that broke can go on."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = TAIL_BYTES = 1 << 16
_TRACK_UID = b"\x73\xc5\x88"  # an element of 8 bytes


def fix_uids(path: Path) -> None:
    """Number the tracks of a WebM file from 1, where they are described and where the file's ends refer to them."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        tail_at = max(HEAD_BYTES, size - TAIL_BYTES)
        head = file.read(HEAD_BYTES)
        file.seek(tail_at)
        tail = file.read()
        for number, uid in enumerate(_uids(head), 1):
            fixed = number.to_bytes(8, "big")
            head, tail = head.replace(uid, fixed), tail.replace(uid, fixed)
        file.seek(0)
        file.write(head)
        file.seek(tail_at)
        file.write(tail)


def _uids(head: bytes) -> list[bytes]:
    found: list[bytes] = []
    at = head.find(_TRACK_UID)
    while at >= 0 and len(found) < 8:
        found.append(head[at + 3:at + 11])
        at = head.find(_TRACK_UID, at + 11)
    return [uid for uid in found if len(uid) == 8 and uid.count(0) < 4]
