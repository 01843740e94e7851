"""An export on its way to a file: written under another name in the same folder, and renamed once it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

from sam_service.client.calls import ExportFormat
from sam_service.export.formats import FORMATS

Progress = Callable[[int, int | None], None]


class Download:
    """A file that is being written. As a context manager it leaves nothing behind unless `finish` was called.

    place: a file, or a folder, in which the file has the service's name for it. progress: called with the bytes so far, and the
    bytes in all where the service says so.
    """

    def __init__(self, place: str | os.PathLike[str], response: httpx.Response, export_format: ExportFormat,
                 progress: Progress | None) -> None:
        path = Path(place)
        self.path = path / _name(response, export_format) if path.is_dir() else path
        self._partial = self.path.with_name(f".{self.path.name}.part")
        length = response.headers.get("content-length", "")
        self._total = int(length) if length.isdigit() else None
        self._done = 0
        self._progress = progress
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._file = self._partial.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append."""
        assert self._file is not None
        self._file.write(data)
        self._done += len(data)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def finish(self) -> Path:
        """Move the whole file to its place and return it."""
        assert self._file is not None
        self._file.close()
        self._partial.replace(self.path)
        return self.path


def _name(response: httpx.Response, export_format: ExportFormat) -> str:
    """The service's name for the file, without any folder in it."""
    header = Message()
    header["Content-Disposition"] = response.headers.get("content-disposition", "")
    named = Path((header.get_filename() or "").replace("\\", "/")).name
    return named or f"export{FORMATS[export_format].suffix}"
