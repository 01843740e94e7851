"""The use case around propagation: carry the prompted objects through the clip, one queued step for each frame.

The next frame is read while the network works on this one, and masks are compressed and stored while it works on the next.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sam_service.core.engine import StepResult
from sam_service.core.features import Frame
from sam_service.errors import Conflict, EngineError, NotFound, NotReady, QueueFull, ServiceError
from sam_service.sessions.events import FrameDone, JobChanged
from sam_service.sessions.jobs import FrameResult, Job, JobState
from sam_service.sessions.plan import Plan, PropagationRequest, directed
from sam_service.sessions.recovery import require_bank
from sam_service.sessions.render import absent, to_record
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session

logger = logging.getLogger(__name__)

KEPT_JOBS = 64
BACKOFF_S = 0.05


@dataclass(frozen=True, slots=True)
class _Turn:
    """A frame whose turn has come, and whether it is reached going backward."""

    frame: Frame
    reverse: bool


def _plan(session: Session, request: PropagationRequest) -> Plan:
    """What a request means for a session as it is now. Raises Conflict, NotFound, InvalidInput."""
    chosen = tuple(session.prompts) if request.object_ids is None else tuple(dict.fromkeys(request.object_ids))
    prompted = [frame for object_id in chosen for frame in session.require_object(object_id, "object_ids")]
    if not prompted:
        raise Conflict("there is nothing to propagate: no object of this session has a prompt", field="object_ids"
                       if request.object_ids is not None else None, code="nothing_to_propagate")
    start = min(prompted) if request.start_frame is None else request.start_frame
    return directed(chosen, start, request.end_frame, request.direction)


class Propagation:
    """Propagations of the sessions of one service, and their jobs."""

    def __init__(self, sessions: SessionService) -> None:
        self._sessions = sessions
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    async def start(self, session_id: str, request: PropagationRequest) -> Job:
        """Start a propagation and return its job at once.

        Raises Conflict where nothing is prompted or a propagation runs already, NotFound for unknown objects and frames.
        """
        session = self._sessions.get(session_id)
        self._sessions.engine.require_ready()
        await self._require_bounds(session, request)
        async with session.exclusive():
            if session.busy:
                raise Conflict("a propagation runs on this session already; cancel it or wait for its end",
                               code="propagation_running")
            plan = _plan(session, request)
            await self._require(session, plan.start, "start_frame")
            await require_bank(self._sessions, session)
            if session.job is not None:
                session.job.release()
            job = Job(secrets.token_hex(16), session_id, plan, plan.total(session.frames.num_frames))
            session.job = self._jobs[job.job_id] = job
            self._forget_old_jobs()
            self._launch(session, job)
        return job

    async def resume(self, session_id: str, job_id: str, position: int) -> Job:
        """A job whose client comes back and has seen its first `position` frames. One that the client's leaving stopped
        goes on.

        Raises NotFound for a job that is not this session's, Conflict where the frames after `position` are gone.
        """
        session, job = self._sessions.get(session_id), self.job(job_id)
        if job.session_id != session_id:
            raise NotFound("this session has no such propagation", field="last-event-id")
        if job.left:
            await job.wait()
            async with session.exclusive():
                if job.left and session.job is job:
                    await require_bank(self._sessions, session)
                    job.reopen()
                    self._launch(session, job)
        if not job.first_kept <= position <= job.done or (job.left and not job.running):
            raise Conflict(f"this propagation cannot go on after its frame number {position}; start another one, which goes "
                           "over stored features quickly", field="last-event-id", code="stream_over")
        return job

    def cancel_all(self, session_id: str) -> list[Job]:
        """Ask what runs on a session to stop; returns it."""
        session = self._sessions.get(session_id)
        running = [session.job] if session.job is not None and session.job.running else []
        for job in running:
            job.cancel()
        return running

    def job(self, job_id: str) -> Job:
        """A job that runs or ended not long ago. Raises NotFound."""
        if job_id not in self._jobs:
            raise NotFound("there is no such job", field="job_id")
        return self._jobs[job_id]

    def _forget_old_jobs(self) -> None:
        for job_id in [job_id for job_id, job in self._jobs.items() if not job.running][:max(0, len(self._jobs) - KEPT_JOBS)]:
            del self._jobs[job_id]

    def _launch(self, session: Session, job: Job) -> None:
        job.task = asyncio.create_task(self._run(session, job), name=f"propagate-{session.session_id}")
        session.events.tell(JobChanged(job))

    async def _require_bounds(self, session: Session, request: PropagationRequest) -> None:
        """Wait for the frames that a request names; done before the session is locked, since it can take long."""
        for field in ("start_frame", "end_frame"):
            frame = getattr(request, field)
            if frame is not None:
                await self._require(session, frame, field)

    async def _require(self, session: Session, frame: int, field: str) -> None:
        try:
            await self._sessions.require_frame(session, frame)
        except NotFound as error:
            raise NotFound(error.message, field=field) from None

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
            state = JobState.CANCELLED if job.cancel_requested else JobState.DONE
        except ServiceError as error:
            state, failure = JobState.FAILED, error
        except Exception:
            logger.exception("propagation of session %s failed", session.session_id)
            state, failure = JobState.FAILED, EngineError("the propagation failed; the service's log says why")
        try:
            if publishing is not None:
                await publishing
        except ServiceError as error:
            state, failure = JobState.FAILED, failure or error
        except Exception:
            logger.exception("a frame of session %s could not be stored", session.session_id)
            state, failure = JobState.FAILED, failure or EngineError("a frame could not be stored; the service's log says why")
        finally:
            job.finish(state, failure)
            session.events.tell(JobChanged(job))

    async def _turns(self, session: Session, job: Job) -> AsyncIterator[_Turn]:
        """The frames in order, each once it is extracted; the one after it is read ahead where it is there already."""
        ahead: dict[int, Frame] = {}
        async for index, reverse in self._order(session, job):
            frame = ahead.pop(index, None) or self._sessions.frame(session, index)
            after = index - 1 if reverse else index + 1
            ahead = {after: self._sessions.frame(session, after)} if 0 <= after < session.frames.frames_ready else {}
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
                found = {output.object_id: to_record(output, session.record.image_size, width, height, step.elapsed_ms)
                         for output in step.outputs if output.object_id in prompted}
                self._sessions.store.put_masks(
                    session.session_id, [mask for object_id, mask in found.items() if object_id not in answered])
                masks = [found.get(object_id) or absent(index, object_id, width, height) for object_id in objects]
                return FrameResult(index, session.frames.timestamp_s(index), tuple(masks))

            result = await self._sessions.in_pool(store)
        job.total = max(job.total, job.done + 1)
        job.add(result)
        session.events.tell(FrameDone(job, job.done, result))
