"""Exports: the session's masks as files that other tools open."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sam_service.api.deps import ServicesDep
from sam_service.api.session_routes import SessionPath
from sam_service.errors import InvalidInput
from sam_service.export.formats import FORMATS
from sam_service.schemas import MAX_ID, ExportFormats, ExportQuery
from sam_service.sessions.exporting import Export, ExportRequest

router = APIRouter(tags=["export"])
_ANSWERS: dict[int | str, dict[str, Any]] = {200: {
    "description": "the file, as `format` says",
    "content": {kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in sorted({form.media_type for form in FORMATS.values()})}}}


@router.get("/export-formats", summary="Which formats of exports there are", response_model=ExportFormats)
async def export_formats() -> dict[str, Any]:
    """Every format, what it is and which options it takes."""
    return {"formats": [{"format": name, "title": form.title, "description": form.description, "media_type": form.media_type,
                         "options": sorted(form.takes)} for name, form in FORMATS.items()]}


@router.get("/sessions/{session_id}/export", summary="Export masks", response_class=StreamingResponse, responses=_ANSWERS)
async def export(session_id: SessionPath, query: Annotated[ExportQuery, Query()], request: Request,
                 services: ServicesDep) -> StreamingResponse:
    """Masks as PNG, DAVIS, COCO, YOLO, labelme, an overlay video or cut-outs: what is stored at this moment, of all frames or
    a range. Sent while it is made; a video is sent once it is made. A client that goes away ends it."""
    started = await services.exporting.start(session_id, ExportRequest(
        query.format, query.size, query.start_frame, query.end_frame, _object_ids(query.object_ids), query.images,
        query.feather, query.segmentation))
    try:
        await started.begin(request.is_disconnected)
    except BaseException:
        started.close()
        raise
    return ExportResponse(started)


class ExportResponse(StreamingResponse):
    """Sends an export and closes it, however the sending ends."""

    def __init__(self, export: Export) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(export.pieces(), media_type=export.media_type, headers=headers)
        self.headers["Content-Disposition"] = _attachment(export.file_name)
        self._export = export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._export.close()


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
