"""A job's frames on their way to one client: in one answer, or event by event. A client that disconnects pauses its job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from fastapi import Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic_core import to_json

from sam_service.api import views
from sam_service.api.deps import Services
from sam_service.api.problems import problem_of
from sam_service.errors import Conflict, NotReady, ServiceError, TooLarge
from sam_service.masks.encode import MaskFormat
from sam_service.schemas import FrameMasks, Propagated
from sam_service.sessions.jobs import Job
from sam_service.sessions.records import FrameResult
from sam_service.sessions.states import JobState

KEEP_ALIVE_S = 15.0
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def collect(request: Request, services: Services, job: Job, mask_format: MaskFormat) -> bytes:
    """The whole propagation as one JSON document. Raises what ended it early."""
    frames = []
    with _reading(request, job):
        async for result in job.follow():
            frames.append(await _rendered(services, job, result, mask_format))
    if job.error is not None:
        raise job.error
    if job.state is JobState.INTERRUPTED:
        raise NotReady(f"the service is stopping; {len(frames)} frames were computed and are stored", code="stopping",
                       retry_after_s=10)
    if job.public_state == JobState.CANCELLED:
        raise Conflict(f"the propagation was cancelled after {len(frames)} frames, which are stored", code="cancelled")
    answer = Propagated(session_id=job.session_id, num_frames=len(frames), frames=frames,
                        elapsed_s=round(job.elapsed_s, 4), frames_per_second=round(job.frames_per_second, 3))
    return await services.sessions.pools.rendering.run(lambda: answer.model_dump_json().encode())


async def ndjson(request: Request, services: Services, job: Job, mask_format: MaskFormat) -> AsyncIterator[bytes]:
    """The propagation as lines: `start`, a `frame` each, then `end` or `error`."""
    with _reading(request, job):
        async for _, event in events(services, job, mask_format):
            yield to_json(event) + b"\n"


async def sse(request: Request, services: Services, job: Job, mask_format: MaskFormat,
              after: int | None) -> AsyncIterator[bytes]:
    """The propagation as server-sent events, from the one after number `after` on."""
    with _reading(request, job):
        async for chunk in watch_sse(services, job, mask_format, after):
            yield chunk


async def watch_sse(services: Services, job: Job, mask_format: MaskFormat, after: int | None) -> AsyncIterator[bytes]:
    """Like `sse`, but a disconnect does not pause the job. Where nothing happens, a comment keeps the connection open."""
    source = events(services, job, mask_format, after)
    pending = asyncio.ensure_future(anext(source, None))
    try:
        while True:
            await asyncio.wait({pending}, timeout=KEEP_ALIVE_S)
            if not pending.done():
                yield KEEPALIVE_COMMENT
                continue
            item = pending.result()
            if item is None:
                return
            number, event = item
            yield format_sse_event(event=event["event"], id=f"{job.job_id}:{number}", data_str=to_json(event).decode())
            pending = asyncio.ensure_future(anext(source, None))
    finally:
        pending.cancel()


async def events(services: Services, job: Job, mask_format: MaskFormat,
                 after: int | None = None) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """A job's numbered events, as every streaming form sends them: 0 is `start`, n the n-th frame, then the end.

    after: the number of the last event that the client has.
    """
    if after is None:
        yield 0, {"event": "start", "session_id": job.session_id, "job_id": job.job_id, "total": job.total}
    done = after or 0
    async for result in job.follow(done):
        try:
            frame = await views.frame_document(services, job.session_id, result, mask_format)
        except TooLarge as error:
            yield done + 1, _error(error, done, result.frame_index)
            return
        done += 1
        yield done, {"event": "frame", "done": done, "total": max(job.total, done),
                     "frames_per_second": round(job.frames_per_second, 3), **frame}
    if job.error is not None:
        yield done + 1, _error(job.error, done, job.at)
    else:
        yield done + 1, {"event": "end", "state": job.public_state, "done": done, "total": job.total,
                         "elapsed_s": round(job.elapsed_s, 4), "frames_per_second": round(job.frames_per_second, 3)}


async def _rendered(services: Services, job: Job, result: FrameResult, mask_format: MaskFormat) -> FrameMasks:
    return await services.sessions.pools.rendering.run(lambda: views.frame_masks(job.session_id, result, mask_format))


def _error(error: ServiceError, done: int, frame_index: int | None) -> dict[str, Any]:
    return {"event": "error", "done": done, "frame_idx": frame_index, **problem_of(error).model_dump(exclude_none=True)}


@contextlib.contextmanager
def _reading(request: Request, job: Job) -> Iterator[None]:
    """Count as a reader of the job, until the client disconnects or the block ends."""
    job.readers += 1
    leave = _once(job.leave)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        leave()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        leave()


def _once(run: Callable[[], None]) -> Callable[[], None]:
    """`run`, which does nothing from the second call on."""
    calls = [run]
    return lambda: calls.pop()() if calls else None
