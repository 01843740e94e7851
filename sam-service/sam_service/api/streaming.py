"""A job's frames on their way to one client: in one answer, or line by line. A client that leaves cancels its job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from pydantic_core import to_json

from sam_service.api import views
from sam_service.api.deps import Services
from sam_service.api.problems import problem_of
from sam_service.errors import Conflict
from sam_service.masks.encode import MaskFormat
from sam_service.schemas import FrameMasks, Propagated
from sam_service.sessions.jobs import FrameResult, Job, JobState

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def collect(request: Request, services: Services, job: Job, mask_format: MaskFormat) -> bytes:
    """The whole propagation as one JSON document. Raises what ended it early."""
    frames = []
    with _cancelled_by_leaving(request, job):
        async for result in job.follow():
            frames.append(await _render(services, job, result, mask_format))
    if job.error is not None:
        raise job.error
    if job.state is JobState.CANCELLED:
        raise Conflict(f"the propagation was cancelled after {len(frames)} frames, which are stored", code="cancelled")
    answer = Propagated(session_id=job.session_id, num_frames=len(frames), frames=frames,
                        elapsed_s=round(job.elapsed_s, 4), frames_per_second=round(job.frames_per_second, 3))
    return await services.sessions.in_pool(lambda: answer.model_dump_json().encode())


async def ndjson(request: Request, services: Services, job: Job, mask_format: MaskFormat) -> AsyncIterator[bytes]:
    """The propagation as lines: `start`, a `frame` each, then `end` or `error`."""
    with _cancelled_by_leaving(request, job):
        async for event in events(services, job, mask_format):
            yield to_json(event) + b"\n"


async def events(services: Services, job: Job, mask_format: MaskFormat) -> AsyncIterator[dict[str, Any]]:
    """A job's events, as every streaming form sends them."""
    yield {"event": "start", "session_id": job.session_id, "job_id": job.job_id, "total": job.total}
    done = 0
    async for result in job.follow():
        done += 1
        frame = await _render(services, job, result, mask_format)
        yield {"event": "frame", "done": done, "total": max(job.total, done),
               "frames_per_second": round(job.frames_per_second, 3), **frame.model_dump()}
    if job.error is not None:
        yield {"event": "error", "done": done, "frame_idx": job.at,
               **problem_of(job.error).model_dump(exclude_none=True)}
    else:
        yield {"event": "end", "state": job.state, "done": done, "total": job.total,
               "elapsed_s": round(job.elapsed_s, 4), "frames_per_second": round(job.frames_per_second, 3)}


async def _render(services: Services, job: Job, result: FrameResult, mask_format: MaskFormat) -> FrameMasks:
    return await services.sessions.in_pool(lambda: views.frame_masks(job.session_id, result, mask_format))


@contextlib.contextmanager
def _cancelled_by_leaving(request: Request, job: Job) -> Any:
    """Cancel the job when the client disconnects, or when whatever reads the job is itself ended."""
    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        job.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        if job.running:
            job.cancel()
