"""Zip archives that are sent while they are written, with names that are safe to unpack on any system."""

from __future__ import annotations

import contextlib
import io
import unicodedata
from collections.abc import Generator, Iterable
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from pathvalidate import sanitize_filename

MAX_NAME_CHARS = 60
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip has: the same masks make the same bytes, so that a download can go on


class Member(NamedTuple):
    """A file of an archive. compress: deflate it; pictures are compressed already."""

    name: str
    data: bytes | Iterable[bytes]
    compress: bool = False


def zip_stream(members: Generator[Member, None, None]) -> Generator[bytes, None, None]:
    """The bytes of a zip archive, a piece for each member. Holds one member, and the list of names, at a time."""
    sink = _Sink()
    with contextlib.closing(members), ZipFile(sink, "w") as archive:
        for member in members:
            info = ZipInfo(member.name, DATE)
            info.compress_type = ZIP_DEFLATED if member.compress else ZIP_STORED
            info.external_attr = 0o644 << 16
            if isinstance(member.data, bytes):
                archive.writestr(info, member.data)
            else:
                with archive.open(info, "w") as file:
                    file.writelines(member.data)
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """Where ZipFile writes: keeps the bytes until they are taken. Not seekable, so that nothing is patched afterwards."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = memoryview(data)  # type: ignore[arg-type]
        self._held += piece
        return piece.nbytes

    def take(self) -> bytes:
        """All bytes since the last call."""
        held, self._held = bytes(self._held), bytearray()
        return held


def safe_name(name: str, default: str) -> str:
    """A name as one part of a path: without separators, control characters, names that a system reserves, or leading
    dots; at most 60 characters. `default` where nothing remains."""
    printable = "".join(char if char.isprintable() else " " for char in unicodedata.normalize("NFC", name))
    cleaned = sanitize_filename(printable, replacement_text="_", platform="universal")
    return cleaned.strip(" .")[:MAX_NAME_CHARS].strip(" .") or default


def folder_names(names: dict[int, str]) -> dict[int, str]:
    """A safe folder name for each object's name, no two alike on a system that ignores case."""
    folders: dict[int, str] = {}
    taken: set[str] = set()
    for object_id, name in names.items():
        folder = safe_name(name, f"object {object_id}")
        if folder.casefold() in taken:
            folder = f"{folder} ({object_id})"
        while folder.casefold() in taken:
            folder += "_"
        taken.add(folder.casefold())
        folders[object_id] = folder
    return folders
