"""Live sessions: frames are pushed one by one, and answered with their masks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from sam_service.api import views
from sam_service.api.deps import ServicesDep
from sam_service.api.problems import documented
from sam_service.api.session_routes import SessionPath
from sam_service.errors import NotAVideo
from sam_service.masks.encode import MaskFormat
from sam_service.schemas import MAX_ID, Number, PushedFrame, Rewind, Rewound

router = APIRouter(tags=["live"])
MAX_PICTURE_BYTES = 16 << 20
PICTURES = ("image/jpeg", "image/png", "image/webp")
_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {
    kind: {"schema": {"type": "string", "format": "binary",
                      "description": f"one picture, at most {MAX_PICTURE_BYTES >> 20} MiB"}}
    for kind in PICTURES}}}


@router.put("/sessions/{session_id}/frames", summary="Push a frame of a live session", openapi_extra=_BODY,
            responses=documented(415, 429))
async def push_frame(session_id: SessionPath, request: Request, services: ServicesDep, mask_format: Annotated[
        MaskFormat, Query(description="form of the masks", examples=["rle"])] = "png", timestamp_s: Annotated[
        Number | None, Query(ge=0, le=1e9, description="when it was taken, seconds; has to rise. By the session's `fps` if "
                                                       "absent", examples=[1.25])] = None, frame_idx: Annotated[
        int | None, Query(ge=0, le=MAX_ID, description="the number that the frame has to get, so that a push can be repeated "
                                                       "safely: the last frame again is answered as before",
                          examples=[0])] = None) -> PushedFrame:
    """Track all objects on one more frame and answer their masks. The body is a JPEG, PNG or WebP of the session's size; a JPEG
    is used as it is."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in PICTURES:
        raise NotAVideo(f"the body is one picture, and its type one of {', '.join(PICTURES)}", field="content-type",
                        code="unsupported_body")
    pushed = await services.live.push(session_id, await request.body(), timestamp_s=timestamp_s, frame_idx=frame_idx)
    document = await views.frame_document(services, session_id, pushed.result, mask_format)
    return PushedFrame(**document, dropped=pushed.dropped, queue_ms=round(pushed.queue_ms, 2), step_ms=round(pushed.step_ms, 2))


@router.post("/sessions/{session_id}/rewind", summary="Go back in a live session")
async def rewind(session_id: SessionPath, body: Rewind, services: ServicesDep) -> Rewound:
    """Drop the frames after `frame_idx`, with their masks, memories and prompts. The next push follows on it."""
    await services.live.rewind(session_id, body.frame_idx)
    session = services.sessions.get(session_id)
    return Rewound(session_id=session_id, frame_idx=body.frame_idx, num_frames=session.frames.num_frames,
                   object_ids=list(session.prompts))
