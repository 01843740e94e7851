"""A multipart upload, written to disk as it comes; python-multipart reads the form."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sam_service.api.bodies import Pace, pieces
from sam_service.api.file_names import file_name
from sam_service.api.picture_parts import MAX_PARTS, FilePart, collect
from sam_service.api.scopes import declared_bytes
from sam_service.errors import EngineError, InvalidInput, TooLarge
from sam_service.failures import disk_full, is_disk_full, translate
from sam_service.schemas import InitializeBody, LiveBody
from sam_service.sessions.folder import UPLOAD_PREFIX
from sam_service.sessions.names import check_file_name
from sam_service.sessions.service import LiveOpening, OpenOptions
from sam_service.video.live import LiveOptions

B = TypeVar("B", bound=BaseModel)
MIB = 1 << 20
FORM_OVERHEAD = 64 << 10
MAX_FIELDS, MAX_FIELD_BYTES = 16, 1024
UTF_8 = b"utf-8"
NO_ROOM = "there is no room on the disk for the upload"
OPTION_FIELDS = ("start_frame", "max_frames", "frame_stride", "image_size", "fps")


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What an upload may be. min_free_bytes: what must stay free on the disk. pace: how slow it may come."""

    max_mb: int
    min_free_bytes: int = 256 * MIB
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came whole, or several as one archive; its name for display; and the form's other fields."""

    path: Path
    name: str
    fields: Mapping[str, str]


@contextlib.asynccontextmanager
async def receive_upload(request: Request, folder: Path, limits: UploadLimits,
                         stopping: asyncio.Event) -> AsyncIterator[Upload]:
    """Write the request's file into `folder`, where it lies until the block ends, or is moved away.

    Raises TooLarge and StorageFull, both before anything is read where the request says its length, TooSlow, InvalidInput,
    and NotReady once the service is `stopping`.
    """
    max_bytes = limits.max_mb * MIB + FORM_OVERHEAD
    too_large = TooLarge(f"an upload may have at most {limits.max_mb} MiB (MAX_UPLOAD_MB)", field="file",
                         code="upload_too_large")
    declared = declared_bytes(request.headers)
    if declared > max_bytes:
        raise too_large
    form = _Form(request.headers.get("content-type", ""))
    _check_room(folder, limits.min_free_bytes + declared)
    with _storing():
        descriptor, created = tempfile.mkstemp(dir=folder, prefix=UPLOAD_PREFIX)
    path = Path(created)
    try:
        with open(descriptor, "wb", buffering=0) as target:
            async for piece in pieces(request.receive, max_bytes, too_large, limits.pace, stopping):
                form.feed(piece)
                if len(form.pending) >= MIB:
                    await _write(target, form.take(), path.parent, limits.min_free_bytes)
            await _write(target, form.take(), path.parent, limits.min_free_bytes)
        parts = form.finish()
        if len(parts) > 1:
            _check_room(folder, limits.min_free_bytes + parts[-1].end)
            await _in_thread(lambda: _collect(path, parts))
        yield Upload(path, check_file_name(parts[0].name), form.fields)
    finally:
        path.unlink(missing_ok=True)


def form_options(fields: Mapping[str, str]) -> OpenOptions:
    """The options among a form's fields, checked like those of a JSON body."""
    known = {*OPTION_FIELDS, "file"}
    unknown = sorted(set(fields) - set(OPTION_FIELDS))
    if unknown:
        raise InvalidInput(f"unknown form field `{unknown[0][:100]}`; the fields are {', '.join(sorted(known))}",
                           field=unknown[0][:100])
    return open_options(checked({"video_path": "upload", **{name: value for name, value in fields.items() if value}}))


def checked(raw: Any) -> InitializeBody:
    """The body of `/initialize`. Raises RequestValidationError, as FastAPI does for the bodies that it reads itself."""
    return _validated(InitializeBody, raw)


def live_opening(raw: Any) -> LiveOpening:
    """The body of `/initialize` for a live session. Raises as `checked`."""
    body = _validated(LiveBody, raw)
    return LiveOpening(body.width, body.height, LiveOptions(body.policy, body.keep_frames, body.fps), body.image_size)


def _validated(model: type[B], raw: Any) -> B:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from None


def open_options(body: InitializeBody) -> OpenOptions:
    """The options of a JSON body."""
    return OpenOptions(body.start_frame, body.max_frames, body.frame_stride, body.image_size, body.fps)


class _Form:
    """What python-multipart finds: small fields, and the bytes of the files, `pending` until they are taken."""

    def __init__(self, content_type: str) -> None:
        parameters = parse_options_header(content_type)[1]
        if parameters.get(b"charset", UTF_8).lower() != UTF_8:
            raise InvalidInput("a form is written in UTF-8; leave `charset` out", field="content-type")
        boundary = parameters.get(b"boundary")
        if not boundary:
            raise InvalidInput("the multipart body's boundary is missing in `Content-Type`", field="content-type")
        self.fields: dict[str, str] = {}
        self.pending = bytearray()
        self._files: list[FilePart] = []
        self._received = 0
        self._ended = False
        self._part = ""
        self._in_file = False
        self._value = bytearray()
        self._header, self._content, self._disposition = b"", b"", b""
        try:
            self._parser = MultipartParser(boundary, {
                "on_part_begin": self._begin, "on_header_field": self._header_name, "on_header_value": self._header_value,
                "on_header_end": self._header_end, "on_headers_finished": self._headers_end, "on_part_data": self._data,
                "on_part_end": self._part_end, "on_end": self._end})
        except FormParserError:
            raise InvalidInput("the multipart body's boundary is too long", field="content-type") from None

    def feed(self, piece: bytes) -> None:
        """Read on. Raises InvalidInput."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise InvalidInput("the multipart body cannot be read", field="file", code="invalid_multipart") from None

    def take(self) -> bytes:
        """The file's bytes since the last call."""
        taken, self.pending = bytes(self.pending), bytearray()
        return taken

    def finish(self) -> list[FilePart]:
        """The files, once the body is complete. Raises InvalidInput where it is not, or holds no file."""
        if not self._ended:
            raise InvalidInput("the multipart body breaks off", field="file", code="invalid_multipart")
        if not self._files:
            raise InvalidInput("the multipart field `file` with the video is missing", field="file")
        return self._files

    def _begin(self) -> None:
        self._disposition = b""
        self._value = bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._content
        self._header, self._content = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if not self._part:
            raise InvalidInput("a part of the multipart body has no name", field="file", code="invalid_multipart")
        if self._part in self.fields:
            raise InvalidInput(f"the form field `{self._part[:100]}` is given twice", field=self._part[:100])
        name = file_name(self._disposition, options)
        self._in_file = name is not None
        if self._in_file and self._part != "file":
            raise InvalidInput("the video belongs into the multipart field `file`", field="file")
        if self._in_file:
            if len(self._files) == MAX_PARTS:
                raise InvalidInput(f"an upload may have at most {MAX_PARTS} files", field="file")
            self._files.append(FilePart(name or "video", self._received, self._received))
        elif self._part == "file":
            raise InvalidInput("the multipart field `file` is no file: it has no file name", field="file")
        elif len(self.fields) == MAX_FIELDS:
            raise InvalidInput(f"the form has more than {MAX_FIELDS} fields", field="file", code="invalid_multipart")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.pending += data[start:end]
            self._received += end - start
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise InvalidInput(f"a form field may have at most {MAX_FIELD_BYTES} bytes", field=self._part[:100])

    def _part_end(self) -> None:
        if self._in_file:
            self._files[-1] = self._files[-1]._replace(end=self._received)
        else:
            self.fields[self._part] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self._ended = True


async def _write(target: IO[bytes], data: bytes, folder: Path, min_free_bytes: int) -> None:
    await _in_thread(lambda: _write_all(target, data, folder, min_free_bytes))


async def _in_thread(write: Callable[[], None]) -> None:
    """Write in a thread. Where the request is given up meanwhile, the thread is waited for: the file is closed next."""
    writing = asyncio.ensure_future(asyncio.to_thread(write))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise


def _write_all(target: IO[bytes], data: bytes, folder: Path, min_free_bytes: int) -> None:
    _check_room(folder, min_free_bytes)
    rest = memoryview(data)
    with _storing():
        while rest:
            rest = rest[target.write(rest):]


def _collect(path: Path, parts: Sequence[FilePart]) -> None:
    with _storing():
        collect(path, parts)


def _check_room(folder: Path, needed: int) -> None:
    if shutil.disk_usage(folder).free < needed:
        raise disk_full(NO_ROOM)


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    """Raise StorageFull for a full disk, EngineError for another failure of the disk."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(NO_ROOM) from error
        raise translate(error) or EngineError("the upload could not be stored", code="storage_failed") from error
