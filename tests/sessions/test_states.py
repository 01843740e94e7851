"""Life cycles: every state is reached, and nothing but the table decides what follows what."""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import StrEnum
from itertools import product

import pytest
from sam_service.sessions.states import (
    JOB_FOLLOWERS,
    MEMORY_FOLLOWERS,
    SESSION_FOLLOWERS,
    STOPPED_AS,
    JobState,
    MemoryState,
    SessionState,
    follow,
)

CYCLES: list[tuple[type[StrEnum], Mapping[StrEnum, Set[StrEnum]], set[StrEnum]]] = [
    (SessionState, SESSION_FOLLOWERS, {SessionState.OPENING}),  # type: ignore[list-item]
    (MemoryState, MEMORY_FOLLOWERS, {MemoryState.STORED}),  # type: ignore[list-item]
    (JobState, JOB_FOLLOWERS, {JobState.RUNNING}),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("states", "followers", "reached"), CYCLES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_state_is_reached_and_only_followers_follow(
        states: type[StrEnum], followers: Mapping[StrEnum, Set[StrEnum]], reached: set[StrEnum]) -> None:
    assert followers.keys() == set(states)
    for _ in states:
        reached = reached | {then for now in reached for then in followers[now]}
    assert reached == set(states)
    for now, then in product(states, states):
        if then in followers[now]:
            assert follow(now, then, followers) is then
        else:
            with pytest.raises(RuntimeError, match="cannot follow"):
                follow(now, then, followers)


def test_what_a_job_is_stopped_as_may_follow() -> None:
    assert all(then in JOB_FOLLOWERS[now] for now, then in STOPPED_AS.items())
