"""The use case around propagation: track the prompted objects through the clip.

A propagation is a job that is stored. A background job outlives its client; any job can be resumed by the next process.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from dataclasses import replace

from sam_service.errors import Conflict, EngineError, ModelUnavailable, NotFound, NotReady
from sam_service.failures import translate
from sam_service.sessions.history import drop_undone
from sam_service.sessions.jobs import Job
from sam_service.sessions.plan import Plan, PropagationRequest, directed
from sam_service.sessions.records import FrameResult, JobRecord
from sam_service.sessions.recovery import exclusive
from sam_service.sessions.render import absent
from sam_service.sessions.running import Runner
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.states import JobState

logger = logging.getLogger(__name__)

KEPT_JOBS = 64
MAX_ATTEMPTS = 3  # processes that may take up a job: one that crashes them must not do so for ever
MODEL_INTERVAL_S = 0.2


def _plan(session: Session, request: PropagationRequest) -> Plan:
    """What a request means for a session as it is now. Raises Conflict, NotFound, InvalidInput."""
    chosen = tuple(session.prompts) if request.object_ids is None else tuple(dict.fromkeys(request.object_ids))
    for object_id in chosen:
        session.require_object(object_id, "object_ids")
    if request.object_ids is not None:
        session.require_unlocked(chosen, "object_ids")
    free = [object_id for object_id in chosen if object_id not in session.objects.locked]
    prompted = [frame for object_id in free for frame in session.prompts[object_id]]
    if not prompted and len(free) < len(chosen):
        raise Conflict("there is nothing to propagate: no object that is not locked has a prompt", code="object_locked")
    if not prompted:
        raise Conflict("there is nothing to propagate: no object of this session has a prompt", field="object_ids"
                       if request.object_ids is not None else None, code="nothing_to_propagate")
    start = max(min(prompted), session.frames.first) if request.start_frame is None else request.start_frame
    plan = directed(chosen, start, request.end_frame, request.direction)
    back = plan.backward
    return replace(plan, backward=range(back.start, max(back.stop, session.frames.first - 1), -1)) if back else plan


class Propagation:
    """Propagations of the sessions of one service, and their jobs."""

    def __init__(self, sessions: SessionService) -> None:
        self._sessions = sessions
        self._runner = Runner(sessions)
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._stopping = False

    async def start(self, session_id: str, request: PropagationRequest, *, background: bool = False) -> Job:
        """Start a propagation and return its job at once.

        Raises Conflict where nothing is prompted or a propagation runs already, NotFound for unknown objects and frames,
        CapacityError where there is no room.
        """
        session = self._sessions.get(session_id)
        self._sessions.engine.require_ready()
        self._sessions.require_room()
        await self._require_bounds(session, request)
        async with exclusive(self._sessions, session):
            if session.busy:
                raise Conflict("a propagation runs on this session already; cancel it or wait for its end",
                               code="propagation_running")
            plan = _plan(session, request)
            job = Job(secrets.token_hex(16), session_id, plan, plan.total(session.frames.num_frames), background=background)
            await drop_undone(self._sessions, session)
            await self._store(job)
            if session.job is not None:
                session.job.release()
            session.job = self._jobs[job.job_id] = job
            self._forget_old_jobs()
            self._launch(session, job)
        return job

    async def resume(self, session_id: str, job_id: str, position: int) -> Job:
        """A job whose client reconnects and has its first `position` frames. Resumes a job that paused because its client
        disconnected or the process ended.

        Raises NotFound for a job that is not this session's, Conflict where the frames after `position` are gone.
        """
        session, job = self._sessions.get(session_id), self.job(job_id)
        if job.session_id != session_id:
            raise NotFound("this session has no such propagation", field="last-event-id")
        self._sessions.engine.require_ready()
        if job.resumable:
            await job.wait()
            async with exclusive(self._sessions, session):
                if job.state is JobState.PAUSED and session.job is job:
                    await self._resume(session, job)
        if position > job.done or job.state is JobState.PAUSED:
            raise Conflict(f"this propagation cannot go on after its frame number {position}; start another one",
                           field="last-event-id", code="stream_over")
        await self.recall(job, position)
        return job

    async def recall(self, job: Job, position: int) -> None:
        """Read the results from the `position`-th on that a job has let go back from the store."""
        session = self._sessions.get(job.session_id)
        async with session.hold():
            if position < job.first_kept:
                job.recall(await self._sessions.pools.store.run(lambda: self._stored(session, job, position)))

    def restore(self) -> None:
        """Read the jobs of an earlier process; one that had not ended is paused. Called before serving."""
        for record in self._sessions.store.jobs():
            session = self._sessions.find(record.session_id)
            if session is None:
                continue
            state = JobState.PAUSED if record.state == JobState.RUNNING else JobState(record.state)
            session.job = self._jobs[record.job_id] = Job(
                record.job_id, record.session_id, Plan.from_json(record.plan), record.total, background=record.background,
                state=state, attempts=record.attempts, done=record.done, first_kept=record.done, finished_at=time.monotonic())

    async def resume_background(self) -> None:
        """Resume the background jobs of an earlier process, each once the model is loaded."""
        for job in [job for job in self._jobs.values() if job.state is JobState.PAUSED and job.background]:
            session = self._sessions.find(job.session_id)
            try:
                await self._model()
                if session is not None and session.job is job:
                    async with exclusive(self._sessions, session):
                        if job.state is JobState.PAUSED and session.job is job:
                            await self._resume(session, job)
            except Exception as error:
                if translate(error) is None:
                    raise
                logger.warning("job %s is not resumed: %s", job.job_id, error)

    def job(self, job_id: str) -> Job:
        """A job that runs or ended not long ago. Raises NotFound."""
        if job_id not in self._jobs:
            raise NotFound("there is no such job", field="job_id")
        return self._jobs[job_id]

    async def cancel(self, job: Job) -> None:
        """Stop a job within a frame, and wait until it has stopped; a paused one cannot be resumed any more."""
        paused = job.state is JobState.PAUSED
        job.cancel()
        if paused:
            await self._sessions.pools.store.run(lambda: self._sessions.store.end_job(job.job_id, job.state))
        await job.wait()

    async def cancel_all(self, session_id: str) -> list[Job]:
        """Stop what runs on a session within a frame; returns it once it has stopped."""
        session = self._sessions.get(session_id)
        running = [session.job] if session.job is not None and session.job.running else []
        for job in running:
            await self.cancel(job)
        return running

    def begin_stop(self) -> None:
        """The process is about to end: jobs stop within a frame and are paused for the next process."""
        self._stopping = True
        for job in self._jobs.values():
            job.interrupt()

    def _launch(self, session: Session, job: Job) -> None:
        self._runner.launch(session, job)
        if self._stopping:  # it was let in just before the stop
            job.interrupt()

    async def _resume(self, session: Session, job: Job) -> None:
        """Resume a paused job. Holds the session's lock, with the memory restored."""
        if job.attempts >= MAX_ATTEMPTS and job.background:
            await self._sessions.pools.store.run(lambda: self._sessions.store.end_job(job.job_id, JobState.FAILED))
            error = EngineError(f"{job.attempts} processes ended while they worked on it", code="propagation_failed")
            job.finish(JobState.FAILED, error)
            raise error
        job.attempts += 1
        await self._store(job)
        if job.state is JobState.PAUSED:  # not cancelled meanwhile
            job.resume()
            self._launch(session, job)

    async def _store(self, job: Job) -> None:
        record = JobRecord(job.job_id, job.session_id, job.plan.to_json(), job.background, job.total, job.done, job.attempts)
        await self._sessions.pools.store.run(lambda: self._sessions.store.put_job(record))

    async def _model(self) -> None:
        """Wait until the model is loaded. Raises ModelUnavailable."""
        while True:
            try:
                self._sessions.engine.require_ready()
                return
            except ModelUnavailable:
                raise
            except NotReady:
                await asyncio.sleep(MODEL_INTERVAL_S)

    def _stored(self, session: Session, job: Job, start: int) -> list[FrameResult]:
        """The results that a job no longer holds, from the store: from the `start`-th on. Blocks."""
        length = session.frames.num_frames if session.frames.complete else None
        results = []
        for position in range(start, job.first_kept):
            index = job.plan.frame_at(position, length)
            found = {mask.object_id: mask for mask in self._sessions.store.masks(session.session_id, index)}
            objects = [object_id for object_id in job.plan.objects if object_id in session.prompts]
            masks = [found.get(object_id) or absent(index, object_id, *session.size) for object_id in objects]
            results.append(FrameResult(index, session.frames.timestamp_s(index), tuple(masks)))
        return results

    def _forget_old_jobs(self) -> None:
        for job_id in [job_id for job_id, job in self._jobs.items() if not job.running][:max(0, len(self._jobs) - KEPT_JOBS)]:
            del self._jobs[job_id]

    async def _require_bounds(self, session: Session, request: PropagationRequest) -> None:
        """Wait for the frames that a request names, before the session is locked, since it can take long. The prompted frames
        were waited for when they were prompted."""
        for field in ("start_frame", "end_frame"):
            frame = getattr(request, field)
            if frame is None:
                continue
            try:
                await self._sessions.require_frame(session, frame)
            except NotFound as error:
                raise NotFound(error.message, field=field) from None
