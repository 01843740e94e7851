"""A session's events: everybody who watches gets them, and nobody waits for a slow watcher."""

from __future__ import annotations

import asyncio

from sam_service.sessions.events import MAX_WAITING, Event, Events, ExportProgress, Missed, ObjectsChanged, SessionDeleted


def progress(done: int) -> ExportProgress:
    return ExportProgress("png", done, 10, "running")


def test_all_watchers_get_an_event_and_those_who_left_none() -> None:
    async def scenario() -> None:
        events = Events()
        events.publish(ObjectsChanged())  # nobody watches: it is dropped
        with events.watch() as one:
            with events.watch() as other:
                assert events.watched
                events.publish(progress(1))
                assert await one.next(0) == await other.next(0) == progress(1)
            events.publish(progress(2))
            assert (await one.next(0), await one.next(0)) == (progress(2), None)
            assert await other.next(0) is None
        assert not events.watched

    asyncio.run(scenario())


def test_a_watcher_is_woken() -> None:
    async def scenario() -> None:
        events = Events()
        with events.watch() as watcher:
            waiting = asyncio.create_task(watcher.next(60))
            await asyncio.sleep(0)
            events.publish(SessionDeleted())
            assert await waiting == SessionDeleted()

    asyncio.run(scenario())


def test_a_slow_watcher_is_handed_one_missed_for_all_that_it_did_not_fetch() -> None:
    async def scenario() -> None:
        events = Events()
        with events.watch() as watcher:
            for done in range(MAX_WAITING + 1):
                events.publish(progress(done))
            found = list[Event | None]()
            while (event := await watcher.next(0)) is not None:
                found.append(event)
            assert found == [Missed(), progress(MAX_WAITING)]

    asyncio.run(scenario())
