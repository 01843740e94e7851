"""`frames.idx`: one record of 24 bytes per stored frame, in order, appended after the frame itself is in place.

So a frame costs one small write however many came before it, and what a killed process left behind is recognised:
a record that is not whole, or whose JPEG is not there, is dropped and the frame extracted again.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from struct import Struct
from typing import NamedTuple

INDEX_NAME = "frames.idx"
_RECORD = Struct("<dqII")


class FrameRecord(NamedTuple):
    """A stored frame: its time in seconds, its source frame, and size in bytes and CRC-32 of its JPEG."""

    timestamp_s: float
    source_index: int
    size: int
    checksum: int

    def fits(self, jpeg: bytes) -> bool:
        """Whether `jpeg` is, byte for byte, what was stored."""
        return len(jpeg) == self.size and zlib.crc32(jpeg) == self.checksum


def append_record(folder: Path, record: FrameRecord) -> None:
    """Add `record` at the end. Raises OSError; the part that was written is then dropped by the next `load_records`."""
    with (folder / INDEX_NAME).open("ab") as file:
        file.write(_RECORD.pack(*record))


def load_records(folder: Path, *, verify: bool = False) -> list[FrameRecord]:
    """Return the records of the frames that are whole, from frame 0 up to the first that is not.

    Whole means of the recorded size; `verify` reads every frame and compares its checksum, for what a power cut may have left.
    What follows them is cut off the file, so that the next record lands in its place. Raises OSError.
    """
    path = folder / INDEX_NAME
    data = path.read_bytes() if path.exists() else b""
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
    records: list[FrameRecord] = []
    for fields in _RECORD.iter_unpack(data[: len(data) // _RECORD.size * _RECORD.size]):
        record = FrameRecord(*fields)
        name = frame_name(len(records))
        if sizes.get(name) != record.size or (verify and not record.fits((folder / name).read_bytes())):
            break
        records.append(record)
    if len(records) * _RECORD.size < len(data):
        os.truncate(path, len(records) * _RECORD.size)
    return records


def frame_name(index: int) -> str:
    """Return the file name of frame `index`."""
    return f"{index:06d}.jpg"
