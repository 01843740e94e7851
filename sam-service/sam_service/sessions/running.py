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
from sam_service.core.memory.bank import MemoryBank
from sam_service.errors import EngineError, NotFound, NotReady, QueueFull, ServiceError
from sam_service.failures import translate
from sam_service.sessions.events import FrameDone, JobChanged
from sam_service.sessions.history import forget_oldest
from sam_service.sessions.jobs import Job
from sam_service.sessions.records import FrameResult, MaskRecord
from sam_service.sessions.render import absent, to_record
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.states import RESUMABLE, JobState

logger = logging.getLogger(__name__)
PROGRESS_FRAMES = 50  # between two log lines of a propagation
BACKOFF_S = 0.05


@dataclass(frozen=True, slots=True)
class _Turn:
    """A frame whose turn has come, and whether it is reached going backward. objects: those that are tracked on to it."""

    frame: ClipFrame
    reverse: bool
    objects: tuple[int, ...]


class Runner:
    """Runs jobs of the sessions of one service."""

    def __init__(self, sessions: SessionService) -> None:
        self._sessions = sessions

    def launch(self, session: Session, job: Job) -> None:
        """Let a job run, or go on, as a task."""
        job.task = asyncio.create_task(self._run(session, job), name=f"propagate-{session.session_id}")
        session.events.publish(JobChanged(job))

    async def _run(self, session: Session, job: Job) -> None:
        """Compute a job's frames. While a step runs, the next frame is read and the one before is compressed and stored."""
        complete, failure = False, None
        publishing: asyncio.Task[None] | None = None
        try:
            bank, num_frames = session.bank, await self._sessions.require_length(session)
            async for turn in self._turns(session, job):
                await self._sessions.recall(session, turn.frame.index, num_frames, track=turn.objects, reverse=turn.reverse)
                step = await self._queue(session, job, bank, turn, num_frames)
                if step is None:
                    break
                result = await step
                if publishing is not None:
                    await publishing
                publishing = asyncio.create_task(self._publish(session, job, turn.frame.index, result))
            complete = not job.stopping
        except Exception as error:
            failure = _failure(session, job, error)
        try:
            if publishing is not None:
                await publishing
        except Exception as error:
            failure = failure or _failure(session, job, error)
        await self._end(session, job, complete, failure)

    async def _end(self, session: Session, job: Job, complete: bool, failure: ServiceError | None) -> None:
        """Store how a job has ended, unless it can be resumed, and publish it."""
        state = JobState.FAILED if failure is not None else JobState.DONE if complete else job.stopped_as
        try:
            if state not in RESUMABLE:
                await self._sessions.pools.store.run(lambda: self._sessions.store.end_job(job.job_id, state))
        except Exception as error:
            state, failure = JobState.FAILED, failure or _failure(session, job, error)
        job.finish(state, failure)
        self._sessions.telemetry.jobs_finished.labels(state).inc()
        session.events.publish(JobChanged(job))

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
            yield _Turn(frame, reverse, tuple(object_id for object_id in job.plan.objects if object_id not in
                                              session.objects.locked and not session.objects.is_absent(object_id, index)))

    async def _order(self, session: Session, job: Job) -> AsyncIterator[tuple[int, bool]]:
        """Frames and whether they are reached going backward, from the first that the job lacks, until it is asked to stop."""
        index, stop = job.plan.forward if job.plan.forward is not None else (0, 0)
        behind = job.done
        while not job.stopping and (stop is None or index < stop):
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
            if job.stopping:
                return
            job.at = index
            yield index, True

    async def _queue(self, session: Session, job: Job, bank: MemoryBank, turn: _Turn,
                     num_frames: int) -> asyncio.Future[StepResult] | None:
        """Queue the step of a frame, and return its future. A full queue is waited for until the job is asked to stop, and
        then there is None."""
        while not job.stopping:
            try:
                return asyncio.wrap_future(self._sessions.engine.step(
                    session.record.image_size, bank, turn.frame, track=turn.objects, reverse=turn.reverse,
                    num_frames=num_frames))
            except QueueFull:
                await asyncio.sleep(BACKOFF_S)
        return None

    async def _publish(self, session: Session, job: Job, index: int, step: StepResult) -> None:
        """Store a frame's masks, then publish them to all who follow the job.

        An object that was removed meanwhile is left out, and one without a prompt is absent. What is stored stays, and is what
        is published, where the object is prompted on this very frame or locked.
        """
        (width, height), telemetry = session.size, self._sessions.telemetry
        async with session.lock:
            objects = [object_id for object_id in job.plan.objects if object_id in session.prompts]
            kept = {object_id for object_id in objects if index in session.prompts[object_id]
                    or object_id in session.objects.locked}
            prompted = {object_id for object_id in objects if session.prompts[object_id]}

            def to_records() -> dict[int, MaskRecord]:
                with telemetry.stage("render"):
                    return {output.object_id: to_record(output, width, height, step.elapsed_ms)
                            for output in step.outputs if output.object_id in prompted}

            found = await self._sessions.pools.steps.run(to_records)
            found |= {object_id: absent(index, object_id, width, height) for object_id in prompted
                      if session.objects.is_absent(object_id, index)}
            stored = [mask for object_id, mask in found.items() if object_id not in kept]
            keep = session.history.keep()

            def store() -> None:
                with telemetry.stage("store"):
                    self._sessions.store.put_masks(session.session_id, stored, job_id=job.job_id, done=job.done + 1, keep=keep)

            await self._sessions.pools.store.run(store)
            await forget_oldest(self._sessions, session)
            if kept:
                found |= {mask.object_id: mask for mask in await self._sessions.pools.store.run(
                    lambda: self._sessions.store.masks(session.session_id, index)) if mask.object_id in kept}
            masks = tuple(found.get(object_id) or absent(index, object_id, width, height) for object_id in objects)
        result = FrameResult(index, session.frames.timestamp_s(index), masks)
        job.total = max(job.total, job.done + 1)
        job.add(result)
        if job.done == 1:
            telemetry.first_mask_seconds.labels("propagate").observe(job.elapsed_s)
        if job.done % PROGRESS_FRAMES == 0:
            logger.info("Propagation progress: %d/%d frames (%.1f fps)", job.done, job.total, job.frames_per_second)
        session.events.publish(FrameDone(job, job.done, result))


def _failure(session: Session, job: Job, error: Exception) -> ServiceError | None:
    """The error that a failed job ends with; None where the job was interrupted and the service refuses work, which is no
    failure. An error that the service does not recognise goes to the log in full."""
    if job.state is JobState.INTERRUPTING and isinstance(error, NotReady):
        return None
    translated = translate(error)
    if translated is None:
        logger.error("propagation of session %s failed", session.session_id, exc_info=error)
        return EngineError("the propagation failed; the service's log says why")
    return translated
