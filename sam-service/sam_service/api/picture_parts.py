"""Several `file` parts of one upload: pictures, which become one archive, as if the client had sent that."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

from sam_service.errors import InvalidInput
from sam_service.sessions.folder import UPLOAD_PREFIX
from sam_service.sessions.names import check_file_name

MAX_PARTS = 20_000
_PIECE_BYTES = 1 << 20
_SUFFIXES = {b"\xff\xd8\xff": (".jpg", ".jpeg"), b"\x89PNG\r\n\x1a\n": (".png",), b"BM": (".bmp",),
             b"II*\0": (".tif", ".tiff"), b"MM\0*": (".tif", ".tiff")}
_WEBP = (".webp",)


class FilePart(NamedTuple):
    """A file of a form: its name as sent, and where its bytes lie among those of all files."""

    name: str
    start: int
    end: int


def collect(path: Path, parts: Sequence[FilePart]) -> None:
    """Turn a file in which the bytes of `parts` follow one another into an archive of them. Blocks.

    Raises InvalidInput where a part is no picture, or two have one name; OSError where it cannot be written.
    """
    descriptor, created = tempfile.mkstemp(dir=path.parent, prefix=UPLOAD_PREFIX)
    try:
        with (path.open("rb") as source, open(descriptor, "wb") as target,
              zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive):
            names: set[str] = set()
            for part in parts:
                name = _picture_name(source, part)
                if name in names:
                    raise InvalidInput(f"two files of the upload are named {name}", field="file")
                names.add(name)
                _copy(source, part, archive, name)
        os.replace(created, path)
    except BaseException:
        Path(created).unlink(missing_ok=True)
        raise


def _picture_name(source: IO[bytes], part: FilePart) -> str:
    """The part's name with the suffix of what it is."""
    source.seek(part.start)
    head = source.read(min(16, part.end - part.start))
    name = check_file_name(part.name)
    fitting = next((suffixes for magic, suffixes in _SUFFIXES.items() if head.startswith(magic)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        fitting = _WEBP
    if fitting is None:
        raise InvalidInput(f"several parts `file` are the pictures of a clip: JPEG, PNG, WebP, BMP or TIFF; {name} is none",
                           field="file")
    return name if name.lower().endswith(fitting) else name + fitting[0]


def _copy(source: IO[bytes], part: FilePart, archive: zipfile.ZipFile, name: str) -> None:
    source.seek(part.start)
    entry = zipfile.ZipInfo(name)
    entry.file_size = left = part.end - part.start
    with archive.open(entry, "w") as target:
        while left and (piece := source.read(min(left, _PIECE_BYTES))):
            target.write(piece)
            left -= len(piece)
