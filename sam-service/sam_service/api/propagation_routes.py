"""Propagation and its jobs."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from sam_service.api import streaming, views
from sam_service.api.deps import ServicesDep
from sam_service.api.session_routes import SessionPath
from sam_service.errors import ClientError, InvalidInput
from sam_service.masks.encode import MaskFormat
from sam_service.schemas import Cancelled, JobInfo, Propagate, Propagated
from sam_service.sessions.plan import PropagationRequest

router = APIRouter(tags=["propagation"])
JobPath = Annotated[str, Path(description="the job, as `/propagate` named it", examples=["4c1d0e7a2b8f4f1f9a6d3b5e8c7a9012"])]
LastEventId = Annotated[str | None, Header(description="`id` of the last server-sent event that arrived, to go on after it",
                                           examples=["4c1d0e7a2b8f4f1f9a6d3b5e8c7a9012:17"])]
JSON, NDJSON, SSE = "application/json", "application/x-ndjson", "text/event-stream"
_EVENT_ID = re.compile(r"([0-9a-f]{32}):(\d{1,9})")

_EVENTS: dict[str, Any] = {
    NDJSON: {"schema": {"type": "string", "description": "an event on each line: start, frame, then end or error"}},
    SSE: {"schema": {"type": "string", "description": "the same events, each with an `id`"}},
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": Propagated, "content": _EVENTS},
    202: {"model": JobInfo, "description": "`background`: the job, also named by `Location`"},
}


@router.post("/propagate", responses=_ANSWERS, response_model=None, summary="Carry objects through the clip")
async def propagate(body: Propagate, request: Request, services: ServicesDep, last_event_id: LastEventId = None) -> Response:
    """Get every object's mask on every frame.

    `Accept: application/json` answers once, `application/x-ndjson` a line for each event as it happens, `text/event-stream`
    the same as server-sent events. A client that disconnects stops its propagation and what was computed stays stored; the
    same request with `Last-Event-ID` resumes it. A `background` job goes on without its client.
    """
    form = _form(request.headers.get("accept", "*/*"))
    after = None
    if form == SSE and last_event_id is not None and not body.background:
        job_id, after = _event_id(last_event_id)
        job = await services.propagation.resume(body.session_id, job_id, after)
    else:
        job = await services.propagation.start(body.session_id, PropagationRequest(
            body.start_frame, body.end_frame, body.direction, body.object_ids), background=body.background)
    if body.background:
        location = str(request.scope.get("root_path", "")) + f"/jobs/{job.job_id}"
        return JSONResponse(views.job_info(job).model_dump(), 202, {"Location": location})
    if form == NDJSON:
        return StreamingResponse(streaming.ndjson(request, services, job, body.mask_format), media_type=NDJSON,
                                 headers=streaming.HEADERS)
    if form == SSE:
        return StreamingResponse(streaming.sse(request, services, job, body.mask_format, after), media_type=SSE,
                                 headers=streaming.HEADERS)
    return Response(await streaming.collect(request, services, job, body.mask_format), media_type=JSON)


@router.get("/jobs/{job_id}", summary="A job's progress")
async def job(job_id: JobPath, services: ServicesDep) -> JobInfo:
    """How far a propagation is. A job is remembered for a while after its end."""
    return views.job_info(services.propagation.job(job_id))


@router.get("/jobs/{job_id}/events", summary="Follow a job", response_class=StreamingResponse,
            responses={200: {"content": {SSE: _EVENTS[SSE]}, "description": "server-sent events"}})
async def job_events(job_id: JobPath, services: ServicesDep, last_event_id: LastEventId = None,
                     mask_format: Annotated[MaskFormat, Query(description="form of the masks", examples=["rle"])] = "none",
                     ) -> Response:
    """A propagation's events from its first frame on, or from the one after `Last-Event-ID`. Leaving does not cancel it."""
    found = services.propagation.job(job_id)
    after = None
    if last_event_id is not None:
        named, after = _event_id(last_event_id)
        if named != job_id or after > found.done + 1:
            raise InvalidInput("the event that is named is not one of this job", field="last-event-id")
        if after == found.done + 1 and not found.running:
            return Response(status_code=204)  # tells a browser that nothing more will come
    await services.propagation.recall(found, after or 0)
    return StreamingResponse(streaming.watch_sse(services, found, mask_format, after), media_type=SSE,
                             headers=streaming.HEADERS)


@router.delete("/jobs/{job_id}", summary="Cancel a job")
async def cancel(job_id: JobPath, services: ServicesDep) -> JobInfo:
    """Stop a propagation within a frame. What was computed stays stored; cancelling again is no error."""
    job = services.propagation.job(job_id)
    await services.propagation.cancel(job)
    return views.job_info(job)


@router.post("/sessions/{session_id}/cancel", summary="Cancel what runs on a session")
async def cancel_session(session_id: SessionPath, services: ServicesDep) -> Cancelled:
    """Stop the propagation of a session within a frame. What was computed stays stored; it is no error if nothing runs."""
    jobs = await services.propagation.cancel_all(session_id)
    return Cancelled(session_id=session_id, cancelled=[running.job_id for running in jobs])


def _form(accept: str) -> str:
    """The media type to answer in: the client's first one that there is."""
    for part in accept.split(","):
        kind = part.partition(";")[0].strip().lower()
        if kind in (NDJSON, JSON, SSE):
            return kind
        if kind in ("*/*", "application/*", ""):
            return JSON
    raise ClientError(f"/propagate answers {JSON}, {NDJSON} or {SSE}, and none is accepted by `Accept: {accept[:100]}`",
                      field="accept", code="not_acceptable")


def _event_id(text: str) -> tuple[str, int]:
    """The job and the number of an event. Raises InvalidInput."""
    found = _EVENT_ID.fullmatch(text.strip())
    if found is None:
        raise InvalidInput("Last-Event-ID is the `id` of an event of /propagate, as in "
                           "4c1d0e7a2b8f4f1f9a6d3b5e8c7a9012:17", field="last-event-id")
    return found[1], int(found[2])
