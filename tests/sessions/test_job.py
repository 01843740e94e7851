"""A job by itself: its states, its readers, its results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sam_service.errors import EngineError
from sam_service.sessions.jobs import Job
from sam_service.sessions.plan import directed
from sam_service.sessions.records import FrameResult
from sam_service.sessions.states import JobState

CANCEL, INTERRUPT, LEAVE = Job.cancel, Job.interrupt, Job.leave


def new_job(*, background: bool = False, readers: int = 1) -> Job:
    return Job("j", "s", directed((1,), 0, None, "forward"), 10, background=background, readers=readers)


def result(index: int) -> FrameResult:
    return FrameResult(index, index / 25, ())


@pytest.mark.parametrize(("calls", "becomes", "public"), [
    ([], JobState.DONE, "done"),
    ([CANCEL], JobState.CANCELLED, "cancelled"),
    ([LEAVE], JobState.PAUSED, "cancelled"),
    ([INTERRUPT], JobState.INTERRUPTED, "interrupted"),
    ([LEAVE, CANCEL], JobState.CANCELLED, "cancelled"),
    ([LEAVE, INTERRUPT], JobState.INTERRUPTED, "interrupted"),
    ([CANCEL, LEAVE], JobState.CANCELLED, "cancelled"),
    ([CANCEL, INTERRUPT], JobState.CANCELLED, "cancelled"),
    ([INTERRUPT, LEAVE], JobState.INTERRUPTED, "interrupted"),
    ([INTERRUPT, CANCEL], JobState.CANCELLED, "cancelled"),
])
def test_what_a_stop_makes_of_a_job(calls: list[Callable[[Job], None]], becomes: JobState, public: str) -> None:
    job = new_job()
    for call in calls:
        call(job)
        assert job.running and job.stopping and job.public_state == "running"
    job.finish(job.stopped_as)
    assert (job.state, job.public_state, job.running, job.stopping) == (becomes, public, False, False)


def test_a_job_pauses_with_its_last_reader_and_a_background_job_needs_none() -> None:
    job = new_job(readers=2)
    job.leave()
    assert not job.stopping
    job.leave()
    assert job.state is JobState.PAUSING
    job = new_job(background=True)
    job.leave()
    assert not job.stopping


def test_a_paused_job_is_resumed_or_cancelled_and_an_ended_one_neither() -> None:
    paused = new_job()
    paused.leave()
    paused.finish(paused.stopped_as)
    paused.resume()
    assert (paused.state, paused.finished_at) == (JobState.RUNNING, None)
    paused.readers = 1
    paused.leave()
    paused.finish(paused.stopped_as)
    paused.cancel()
    assert (paused.state, paused.resumable) == (JobState.CANCELLED, False)
    for call in (CANCEL, INTERRUPT, LEAVE):
        call(paused)
    assert paused.state is JobState.CANCELLED
    with pytest.raises(RuntimeError, match="cannot follow"):
        paused.resume()


def test_a_failure_ends_a_job_whatever_was_asked_of_it() -> None:
    for call in (CANCEL, INTERRUPT, LEAVE):
        job, error = new_job(), EngineError("no")
        call(job)
        job.finish(JobState.FAILED, error)
        assert (job.state, job.error, job.resumable) == (JobState.FAILED, error, False)


def test_followers_read_at_their_own_pace_and_survive_a_release() -> None:
    async def scenario() -> None:
        job = new_job()
        job.add(result(0))
        early = job.follow()
        assert (await anext(early)).frame_index == 0
        for index in (1, 2, 3):
            job.add(result(index))
        late = asyncio.create_task(_rest(job, 2))
        await asyncio.sleep(0)
        job.finish(JobState.DONE)
        assert await late == [2, 3]
        job.release()
        assert (job.results, job.first_kept, job.total) == ([], 4, 4)
        assert [found.frame_index async for found in early] == [1, 2, 3]
        job.recall([result(1), result(2), result(3)])
        assert await _rest(job, 1) == [1, 2, 3]

    asyncio.run(scenario())


def test_starting_over_drops_what_was_done() -> None:
    job = new_job()
    job.add(result(0))
    job.start_over()
    assert (job.done, job.results, job.first_kept) == (0, [], 0)


async def _rest(job: Job, start: int) -> list[int]:
    return [found.frame_index async for found in job.follow(start)]
