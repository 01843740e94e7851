"""How a propagation runs: one queued step for each frame.

The next frame is read while the network works on this one, and masks are compressed and stored while it works on the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sam_service.core.engine import StepResult
from sam_service.core.frames import ClipFrame
from sam_service.errors import EngineError, NotFound, NotReady, QueueFull, ServiceError
from sam_service.failures import translate
from sam_service.sessions.events import FrameDone, JobChanged
from sam_service.sessions.jobs import FrameResult, Job, JobState
from sam_service.sessions.plan import Plan
from sam_service.sessions.render import absent, to_record
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session

logger = logging.getLogger(__name__)
BACKOFF_S = 0.05


@dataclass(frozen=True, slots=True)
class _Turn:
    """A frame whose turn has come, and whether it is reached going backward."""

    frame: ClipFrame
    reverse: bool


class Runner:
    """Runs jobs of the sessions of one service."""

    def __init__(self, sessions: SessionService) -> None:
        self._sessions = sessions

    def launch(self, session: Session, job: Job) -> None:
        """Let a job run, or go on, as a task."""
        job.task = asyncio.create_task(self._run(session, job), name=f"propagate-{session.session_id}")
        session.events.tell(JobChanged(job))

    async def _run(self, session: Session, job: Job) -> None:
        """Compute a job's frames. While a step runs, the next frame is read and the one before is compressed and stored."""
        state, failure = JobState.CANCELLED, None
        publishing: asyncio.Task[None] | None = None
        try:
            num_frames = await self._sessions.require_length(session)
            async for turn in self._turns(session, job):
                result = await (await self._queue(session, job.plan, turn, num_frames))
                if publishing is not None:
                    await publishing
                publishing = asyncio.create_task(self._publish(session, job, turn.frame.index, result))
            state = job.stopped_as
        except Exception as error:
            state, failure = JobState.FAILED, _failure(session, error)
        try:
            if publishing is not None:
                await publishing
            if state is not JobState.INTERRUPTED and not job.left:  # those may go on, in the next process if need be
                await self._sessions.in_pool(lambda: self._sessions.store.end_job(job.job_id, state))
        except Exception as error:
            state, failure = JobState.FAILED, failure or _failure(session, error)
        finally:
            job.finish(state, failure)
            session.events.tell(JobChanged(job))

    async def _turns(self, session: Session, job: Job) -> AsyncIterator[_Turn]:
        """The frames in order, each once it is extracted; the one after it is read ahead where it is there already."""
        ahead: dict[int, ClipFrame] = {}
        async for index, reverse in self._order(session, job):
            frame = ahead.pop(index, None) or self._sessions.tracked_frame(session, index, reverse=reverse, following=False)
            after = index - 1 if reverse else index + 1
            ahead = {}
            if 0 <= after < session.frames.frames_ready:
                ahead[after] = self._sessions.tracked_frame(session, after, reverse=reverse, following=True)
            await self._sessions.read(frame)
            yield _Turn(frame, reverse)

    async def _order(self, session: Session, job: Job) -> AsyncIterator[tuple[int, bool]]:
        """Frames and whether they are reached going backward, from the first that the job lacks, until it is cancelled."""
        index, stop = job.plan.forward if job.plan.forward is not None else (0, 0)
        behind = job.done
        while not job.cancel_requested and (stop is None or index < stop):
            if not behind:
                job.at = index
            try:
                await self._sessions.require_frame(session, index, timeout_s=1.0)
            except NotReady:
                continue
            except NotFound:
                break
            if behind:
                behind -= 1
            else:
                yield index, False
            index += 1
        for index in job.plan.backward[behind:]:
            if job.cancel_requested:
                return
            job.at = index
            yield index, True

    async def _queue(self, session: Session, plan: Plan, turn: _Turn, num_frames: int) -> asyncio.Future[StepResult]:
        """Queue the step of a frame, and return its future. A full queue is waited for."""
        while True:
            try:
                return asyncio.wrap_future(self._sessions.engine.step(
                    session.record.image_size, session.bank, turn.frame, track=plan.objects, reverse=turn.reverse,
                    num_frames=num_frames))
            except QueueFull:
                await asyncio.sleep(BACKOFF_S)

    async def _publish(self, session: Session, job: Job, index: int, step: StepResult) -> None:
        """Store a frame's masks, then tell whoever follows the job.

        An object that was removed meanwhile is left out, one without a prompt is absent, and the stored answer to a prompt
        on this very frame stays.
        """
        width, height = session.size
        async with session.lock:
            objects = [object_id for object_id in job.plan.objects if object_id in session.prompts]
            answered = {object_id for object_id in objects if index in session.prompts[object_id]}
            prompted = {object_id for object_id in objects if session.prompts[object_id]}

            def store() -> FrameResult:
                found = {output.object_id: to_record(output, width, height, step.elapsed_ms)
                         for output in step.outputs if output.object_id in prompted}
                self._sessions.store.put_masks(
                    session.session_id, [mask for object_id, mask in found.items() if object_id not in answered],
                    job_id=job.job_id, done=job.done + 1)
                masks = [found.get(object_id) or absent(index, object_id, width, height) for object_id in objects]
                return FrameResult(index, session.frames.timestamp_s(index), tuple(masks))

            result = await self._sessions.in_pool(store)
        job.total = max(job.total, job.done + 1)
        job.add(result)
        session.events.tell(FrameDone(job, job.done, result))


def _failure(session: Session, error: Exception) -> ServiceError:
    """The error that a failed job ends with. One that the service does not recognise goes to the log in full."""
    translated = translate(error)
    if translated is None:
        logger.error("propagation of session %s failed", session.session_id, exc_info=error)
        return EngineError("the propagation failed; the service's log says why")
    return translated
