"""Propagation and its jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from sam_service.api import streaming, views
from sam_service.api.deps import ServicesDep
from sam_service.errors import ClientError
from sam_service.schemas import JobInfo, Propagate, Propagated
from sam_service.sessions.propagation import PropagationRequest

router = APIRouter(tags=["propagation"])
JobPath = Annotated[str, Path(description="the job, as `/propagate` named it", examples=["4c1d0e7a2b8f4f1f9a6d3b5e8c7a9012"])]
NDJSON = "application/x-ndjson"
JSON = "application/json"

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": Propagated, "content": {NDJSON: {"schema": {"type": "string", "description": "an event on each line"}}}},
    202: {"model": JobInfo, "description": "`background`: the job, also named by `Location`"},
}


@router.post("/propagate", responses=_ANSWERS, response_model=None, summary="Carry objects through the clip")
async def propagate(body: Propagate, request: Request, services: ServicesDep) -> Response:
    """Get every object's mask on every frame.

    `Accept: application/json` answers once, `application/x-ndjson` a line for each event as it happens. A client that goes
    away cancels its propagation and what was computed stays stored; a `background` job goes on.
    """
    form = _form(request.headers.get("accept", "*/*"))
    job = await services.propagation.start(body.session_id, PropagationRequest(
        body.start_frame, body.end_frame, body.direction, body.object_ids))
    if body.background:
        location = str(request.scope.get("root_path", "")) + f"/jobs/{job.job_id}"
        return JSONResponse(views.job_info(job).model_dump(), 202, {"Location": location})
    if form == NDJSON:
        return StreamingResponse(streaming.ndjson(request, services, job, body.mask_format), media_type=NDJSON,
                                 headers=streaming.HEADERS)
    return Response(await streaming.collect(request, services, job, body.mask_format), media_type=JSON)


@router.get("/jobs/{job_id}", summary="A job's progress")
async def job(job_id: JobPath, services: ServicesDep) -> JobInfo:
    """How far a propagation is. A job is remembered for a while after its end."""
    return views.job_info(services.propagation.job(job_id))


@router.delete("/jobs/{job_id}", summary="Cancel a job")
async def cancel(job_id: JobPath, services: ServicesDep) -> JobInfo:
    """Stop a propagation within a frame. What was computed stays stored; cancelling again is no error."""
    job = services.propagation.job(job_id)
    job.cancel()
    await job.wait()
    return views.job_info(job)


def _form(accept: str) -> str:
    """The media type to answer in: the client's first one that there is."""
    for part in accept.split(","):
        kind = part.partition(";")[0].strip().lower()
        if kind in (NDJSON, JSON):
            return kind
        if kind in ("*/*", "application/*", ""):
            return JSON
    raise ClientError(f"/propagate answers {JSON} or {NDJSON}, and neither is accepted by `Accept: {accept[:100]}`",
                      field="accept", code="not_acceptable")
