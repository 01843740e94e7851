"""Exports: the session's masks as files that other tools open."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import IO, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sam_service.api.deps import ServicesDep
from sam_service.api.problems import documented
from sam_service.api.ranges import wanted_range, within
from sam_service.api.session_routes import SessionPath
from sam_service.errors import InvalidInput, RangeNotSatisfiable
from sam_service.export.formats import FORMATS
from sam_service.schemas import MAX_ID, ExportFormats, ExportQuery
from sam_service.sessions.exporting import ExportRequest
from sam_service.video.writer import has_h264

router = APIRouter(tags=["export"])
_FILE = {kind: {"schema": {"type": "string", "format": "binary"}}
         for kind in sorted({form.media_type for form in FORMATS.values()})}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the file, as `format` says", "content": _FILE},
    206: {"description": "the part of it that `Range` asks for", "content": _FILE}, **documented(416)}
SLICE_BYTES = 1 << 18


@router.get("/export-formats", summary="Which formats of exports there are", response_model=ExportFormats)
async def export_formats(services: ServicesDep) -> dict[str, Any]:
    """Every format, what it is and which options it takes. MP4 is left out where there is no encoder for it."""
    encodes = await services.sessions.pools.rendering.run(has_h264)
    return {"formats": [{"format": name, "title": form.title, "description": form.description, "media_type": form.media_type,
                         "options": sorted(form.takes)} for name, form in FORMATS.items() if encodes or name != "mp4"]}


@router.head("/sessions/{session_id}/export", include_in_schema=False)
@router.get("/sessions/{session_id}/export", summary="Export masks", response_class=StreamingResponse, responses=_ANSWERS)
async def export(session_id: SessionPath, query: Annotated[ExportQuery, Query()], request: Request,
                 services: ServicesDep) -> StreamingResponse:
    """Masks as PNG, DAVIS, COCO, YOLO, labelme, an overlay video or cut-outs: what is stored at this moment, of all frames or
    a range. Sent while it is made; a video is sent once it is made. A client that goes away ends it.

    HEAD makes nothing. With `Range` all of it is made first and the part is sent, 206; `If-Range` with the `ETag` of an earlier
    answer gives the part only where it is of the same file, else all of the new one.
    """
    started = await services.exporting.start(session_id, ExportRequest(
        query.format, query.size, query.start_frame, query.end_frame, _object_ids(query.object_ids), query.images,
        query.feather, query.segmentation, query.look, query.opacity))
    try:
        etag = f'"{await started.fingerprint()}"'
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Accept-Ranges": "bytes", "ETag": etag,
                   "Content-Disposition": _attachment(started.file_name)}
        wanted = wanted_range(request.headers, etag)
        if request.method == "HEAD":
            started.close()
            return StreamingResponse(_nothing(), media_type=started.media_type, headers=headers)
        if wanted is not None:
            whole = await started.spool(request.is_disconnected)

            def close() -> None:  # it counts among the exports until its file is gone
                whole.close()
                started.close()

            return _part_of(whole, wanted, started.media_type, headers, close)
        await started.begin(request.is_disconnected)
    except BaseException:
        started.close()
        raise
    return ClosingResponse(started.pieces(), started.close, 200, started.media_type, headers)


class ClosingResponse(StreamingResponse):
    """Sends pieces and then calls `close`, however the sending ends."""

    def __init__(self, pieces: AsyncIterator[bytes], close: Callable[[], None], status: int, media_type: str,
                 headers: Mapping[str, str]) -> None:
        super().__init__(pieces, status, headers, media_type)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


def _part_of(whole: IO[bytes], wanted: tuple[int | None, int | None], media_type: str,
             headers: dict[str, str], close: Callable[[], None]) -> StreamingResponse:
    """The answer with a part of a file, which calls `close` at its end. Raises RangeNotSatisfiable, and has called it then."""
    size = whole.seek(0, os.SEEK_END)
    part = within(wanted, size)
    if part is None:
        close()
        raise RangeNotSatisfiable(f"the file has {size} bytes", field="range", size=size)
    headers |= {"Content-Range": f"bytes {part.start}-{part.stop - 1}/{size}", "Content-Length": str(len(part))}
    return ClosingResponse(_slices(whole, part), close, 206, media_type, headers)


async def _slices(whole: IO[bytes], part: range) -> AsyncIterator[bytes]:
    whole.seek(part.start)
    rest = len(part)
    while rest:
        piece = await asyncio.to_thread(whole.read, min(rest, SLICE_BYTES))
        rest -= len(piece)
        yield piece


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _attachment(name: str) -> str:
    """A header that names the file, for browsers in any script and for tools in ASCII (RFC 6266)."""
    plain = "".join(char if char.isascii() and char not in '"\\%' else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _object_ids(text: str | None) -> list[int] | None:
    """`1,2` as numbers. Raises InvalidInput."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part.lstrip("0")) <= len(str(MAX_ID)) and int(part) <= MAX_ID
               for part in parts):
        raise InvalidInput(f"object_ids is a list of objects' numbers with commas, such as 1,2; each at most {MAX_ID}",
                           field="object_ids")
    return [int(part) for part in parts]
