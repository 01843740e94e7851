"""Bodies under limits that count the bytes as they come; a multipart upload goes to disk."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam_service.api.problems import problem_of, respond
from sam_service.errors import InvalidInput, TooLarge
from sam_service.schemas import InitializeBody
from sam_service.sessions.service import UPLOAD_PREFIX, OpenOptions, check_name

MIB = 1 << 20
FORM_OVERHEAD = 64 << 10
UTF_8 = b"utf-8"
OPTION_FIELDS = ("start_frame", "max_frames", "frame_stride", "image_size")


async def read_form(request: Request, max_mb: int) -> FormData:
    """The request's form, its file spooled to disk. Raises TooLarge as soon as the limit is passed, InvalidInput."""
    limit = max_mb * MIB + FORM_OVERHEAD
    too_large = TooLarge(f"an upload may have at most {max_mb} MiB (MAX_UPLOAD_MB)", field="file", code="upload_too_large")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    _, parameters = parse_options_header(request.headers.get("content-type"))
    if parameters.get(b"charset", UTF_8).lower() != UTF_8:
        raise InvalidInput("a form is written in UTF-8; leave `charset` out", field="content-type")
    received = 0

    async def counted() -> Any:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise too_large
        return message

    try:
        return await Request(request.scope, counted).form(max_files=1, max_fields=16)
    except HTTPException as error:
        raise InvalidInput(f"the multipart body cannot be read: {error.detail}", field="file") from None


def form_options(form: FormData) -> OpenOptions:
    """The options among a form's fields, checked like those of a JSON body."""
    known = {*OPTION_FIELDS, "file"}
    unknown = sorted(set(form) - known)
    if unknown:
        raise InvalidInput(f"unknown form field `{unknown[0][:100]}`; the fields are {', '.join(sorted(known))}",
                           field=unknown[0][:100])
    return open_options(checked({"video_path": "upload", **{name: form[name] for name in OPTION_FIELDS if form.get(name)}}))


def checked(raw: Any) -> InitializeBody:
    """The body of `/initialize`. Raises RequestValidationError, as FastAPI does for the bodies that it reads itself."""
    try:
        return InitializeBody.model_validate(raw)
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from None


def open_options(body: InitializeBody) -> OpenOptions:
    """The options of a JSON body."""
    return OpenOptions(body.start_frame, body.max_frames, body.frame_stride, body.image_size)


def form_file(form: FormData) -> tuple[str, UploadFile]:
    """The uploaded file and its name. Raises InvalidInput where the field `file` is missing or no file."""
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InvalidInput("the multipart field `file` with the video is missing", field="file")
    return check_name(file.filename or "video"), file


def save(file: UploadFile, folder: Path) -> Path:
    """Copy an upload into a new file in `folder` and return its path. Blocks; raises OSError."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=UPLOAD_PREFIX, delete=False) as target:
        shutil.copyfileobj(file.file, target, MIB)
    return Path(target.name)


class BodyLimit:
    """ASGI middleware: a body may have at most `max_bytes`; a longer one is answered 413. `uploads` are paths that take
    multipart bodies and count those themselves."""

    def __init__(self, app: ASGIApp, max_bytes: int, uploads: frozenset[str]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        multipart = scope["type"] == "http" and Headers(scope=scope).get("content-type", "").lower().startswith("multipart/")
        if scope["type"] != "http" or (multipart and scope["path"] in self._uploads):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                error = TooLarge(f"a JSON body may have at most {self._max_bytes} bytes", code="body_too_large")
                await respond(problem_of(error))(scope, receive, send)
                return
            if message["type"] != "http.request" or not message.get("more_body", False):
                break
        pending: list[Message] = [{**message, "body": bytes(body)} if message["type"] == "http.request" else message]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, send)
