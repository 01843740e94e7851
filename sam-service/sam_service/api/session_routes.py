"""Sessions: open, look at, delete; frames and stored masks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from sam_service.api import uploads, views
from sam_service.api.deps import Services, ServicesDep
from sam_service.api.problems import documented
from sam_service.errors import ClientError, FrameUnreadable, NotFound
from sam_service.masks.encode import MaskFormat
from sam_service.masks.png import encode_png
from sam_service.masks.rle import decode_rle
from sam_service.schemas import (
    MAX_ID,
    FrameMasks,
    InitializeBody,
    Initialized,
    LiveBody,
    SessionInfo,
    SessionList,
    Timestamps,
    Tracks,
)
from sam_service.sessions.paths import FIELD, resolve_video
from sam_service.sessions.records import FrameResult
from sam_service.sessions.render import as_rle
from sam_service.sessions.session import Session

router = APIRouter(tags=["sessions"])
SessionPath = Annotated[str, Path(description="the session, as `/initialize` named it",
                                  examples=["0f8b5c3e9a7d4b1c8e2f6a5d4c3b2a19"])]
FrameNumber = Annotated[int, Path(ge=0, le=MAX_ID, description="frame of the session, from 0", examples=[0])]
ObjectNumber = Annotated[int, Path(ge=0, le=MAX_ID, description="the client's number for an object", examples=[1])]

_BODIES: dict[str, Any] = {"requestBody": {"required": True, "content": {
    "application/json": {"schema": {"oneOf": [body.model_json_schema(ref_template="#/components/schemas/{model}")
                                              for body in (InitializeBody, LiveBody)]}},
    "multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {
        "file": {"type": "string", "format": "binary", "description": "the video, or an archive of pictures; several parts are "
                                                                     "the pictures of a clip"},
        **{name: {"type": "number" if name == "fps" else "integer",
                  "description": InitializeBody.model_fields[name].description} for name in uploads.OPTION_FIELDS}}}}}}}


@router.post("/initialize", status_code=201, openapi_extra=_BODIES, summary="Open a video", responses=documented(415, 429))
async def initialize(request: Request, response: Response, services: ServicesDep) -> Initialized:
    """Open a video by path (JSON) or by upload (multipart), or a live session (JSON with `live`), whose frames are pushed.
    Answers as soon as frame 0 can be clicked."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        session = await _open_upload(request, services)
    elif kind == "application/json":
        session = await _open_path(request, services)
    else:
        raise ClientError("send JSON with `video_path` or `live`, or multipart/form-data with the video in the field `file`",
                          field="content-type", code="unsupported_body")
    response.headers["x-session-id"] = session.session_id
    return views.initialized(services, session)


@router.get("/sessions", summary="All open sessions")
async def sessions(services: ServicesDep) -> SessionList:
    """List the open sessions, oldest first."""
    return SessionList(sessions=[await views.session_info(services, session) for session in services.sessions.sessions()])


@router.get("/sessions/{session_id}", summary="One session's state")
async def session(session_id: SessionPath, services: ServicesDep) -> SessionInfo:
    """Frames extracted so far, objects, prompts, frames with masks, running work, expiry."""
    return await views.session_info(services, services.sessions.get(session_id))


@router.delete("/sessions/{session_id}", status_code=204, summary="Delete a session")
async def delete(session_id: SessionPath, services: ServicesDep) -> Response:
    """Stop its work and free everything it holds, memory and disk. Deleting again is no error."""
    await services.sessions.delete(session_id)
    return Response(status_code=204)


@router.get("/sessions/{session_id}/frames/{frame_idx}", summary="A frame", response_class=Response,
            responses={200: {"content": {"image/jpeg": {}}, "description": "the frame as JPEG"}})
async def frame(session_id: SessionPath, frame_idx: FrameNumber, services: ServicesDep, width: Annotated[
        int | None, Query(ge=16, le=8192, description="pixels across, for a thumbnail; frames are never enlarged",
                          examples=[160])] = None) -> Response:
    """The frame as the network sees it before squashing. Waits for a frame that is still to be extracted."""
    session = services.sessions.get(session_id)
    await services.sessions.require_frame(session, frame_idx)
    try:
        data = await services.sessions.pools.rendering.run(
            lambda: session.frames.jpeg(frame_idx) if width is None else session.frames.thumbnail(frame_idx, width))
    except FrameUnreadable:
        services.sessions.get(session_id)  # deleted while it was read: then there is no such session
        raise
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/sessions/{session_id}/timestamps", summary="When each frame is shown")
async def timestamps(session_id: SessionPath, services: ServicesDep) -> Timestamps:
    """The times of all frames that are extracted so far. In clips of a varying rate they are not multiples of one length."""
    frames = services.sessions.get(session_id).frames
    return Timestamps(timestamps_s=[round(seconds, 5) for seconds in frames.timestamps_s()], first_frame=frames.first)


@router.get("/sessions/{session_id}/masks/{frame_idx}", summary="A frame's stored masks")
async def frame_masks(session_id: SessionPath, frame_idx: FrameNumber, services: ServicesDep, mask_format: Annotated[
        MaskFormat, Query(description="form of the masks", examples=["rle"])] = "png") -> FrameMasks:
    """The last masks that were computed on a frame; an object without one is left out."""
    session = services.sessions.get(session_id)
    await services.sessions.require_frame(session, frame_idx)

    def render() -> FrameMasks:
        masks = tuple(services.sessions.store.masks(session_id, frame_idx))
        return views.frame_masks(session_id, FrameResult(frame_idx, session.frames.timestamp_s(frame_idx), masks), mask_format)

    return await services.sessions.pools.rendering.run(render)


@router.get("/sessions/{session_id}/tracks", summary="All objects over time")
async def tracks(session_id: SessionPath, services: ServicesDep) -> Tracks:
    """Each object's scores and area on all frames that have a mask of it, for timelines and charts."""
    session = services.sessions.get(session_id)
    return await services.sessions.pools.rendering.run(lambda: views.tracks(session, services.sessions.store.masks(session_id)))


@router.get("/sessions/{session_id}/masks/{frame_idx}/{object_id}", summary="A stored mask", response_class=Response,
            responses={200: {"content": {"image/png": {}}, "description": "8-bit grey PNG, 0 and 255"}})
async def mask(session_id: SessionPath, frame_idx: FrameNumber, object_id: ObjectNumber, services: ServicesDep) -> Response:
    """The last mask that was computed for an object on a frame."""
    session = services.sessions.get(session_id)
    session.require_object(object_id)
    record = services.sessions.store.mask(session_id, frame_idx, object_id)
    if record is None:
        raise NotFound(f"object {object_id} has no mask on frame {frame_idx} yet; propagate first", field="frame_idx",
                       code="no_mask")
    data = await services.sessions.pools.rendering.run(lambda: encode_png(decode_rle(as_rle(record))))
    return Response(data, media_type="image/png", headers={"Cache-Control": "no-cache"})


async def _open_path(request: Request, services: Services) -> Session:
    try:
        raw = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise ClientError("the body is not valid JSON", code="invalid_json") from None
    if isinstance(raw, dict) and "live" in raw:
        return await services.sessions.open_live(uploads.live_opening(raw))
    options = uploads.checked(raw)
    path = await asyncio.to_thread(resolve_video, services.settings.sam2_video_dir, options.video_path)
    with _field_of_the_video(FIELD):
        return await services.sessions.open(path.name, uploads.open_options(options), path=path)


async def _open_upload(request: Request, services: Services) -> Session:
    services.engine.require_ready()
    settings = services.settings
    limits = uploads.UploadLimits(settings.max_upload_mb, settings.min_free_disk_mb << 20)
    async with uploads.receive_upload(request, settings.sam2_data_dir, limits, services.stopping) as upload:
        with _field_of_the_video("file"):
            return await services.sessions.open(upload.name, uploads.form_options(upload.fields), upload=upload.path)


@contextlib.contextmanager
def _field_of_the_video(field: str) -> Iterator[None]:
    """Errors of the video itself name the field that it came in."""
    try:
        yield
    except ClientError as error:
        error.field = error.field or field
        raise
