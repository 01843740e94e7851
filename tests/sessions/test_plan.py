"""Which frames a propagation computes, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sam_service.errors import InvalidInput
from sam_service.sessions.plan import Direction, Plan, directed

LENGTH = 10


def frames(plan: Plan, num_frames: int = LENGTH) -> list[int]:
    return [plan.frame_at(position, num_frames) for position in range(plan.total(num_frames))]


@pytest.mark.parametrize(("start", "end", "direction", "expected"), [
    (4, None, "forward", [4, 5, 6, 7, 8, 9]),
    (4, 6, "forward", [4, 5, 6]),
    (4, 4, "forward", [4]),
    (4, 99, "forward", [4, 5, 6, 7, 8, 9]),
    (4, None, "backward", [4, 3, 2, 1, 0]),
    (4, 2, "backward", [4, 3, 2]),
    (4, None, "both", [4, 5, 6, 7, 8, 9, 3, 2, 1, 0]),
    (4, 5, "both", [4, 5, 3, 2, 1, 0]),
    (0, 1, "both", [0, 1]),
])
def test_order(start: int, end: int | None, direction: Direction, expected: list[int]) -> None:
    plan = directed((1,), start, end, direction)
    if end is None or end < LENGTH:
        assert frames(plan) == expected
    assert [plan.frame_at(position, LENGTH) for position in range(len(expected))] == expected


@pytest.mark.parametrize(("start", "end", "direction"), [(4, 3, "forward"), (4, 5, "backward"), (4, 3, "both")])
def test_an_end_on_the_wrong_side_is_refused(start: int, end: int, direction: Direction) -> None:
    with pytest.raises(InvalidInput) as refused:
        directed((1,), start, end, direction)
    assert refused.value.field == "end_frame"


def test_while_the_length_is_unknown_the_way_forward_has_no_end() -> None:
    plan = directed((1,), 4, None, "both")
    assert plan.frame_at(1000, None) == 1004
    assert plan.frame_at(1000 - 4, 1000) == 3


@given(st.integers(0, 30), st.none() | st.integers(0, 40), st.sampled_from(["forward", "backward", "both"]), st.integers(1, 40))
def test_every_frame_comes_once_and_the_stored_plan_is_the_same(start: int, end: int | None, direction: Direction,
                                                               num_frames: int) -> None:
    start = min(start, num_frames - 1)
    try:
        plan = directed((3, 1), start, end, direction)
    except InvalidInput:
        return
    assert Plan.from_json(plan.to_json()) == plan
    if end is None or end < num_frames:
        found = frames(plan, num_frames)
        assert found[0] == start and len(set(found)) == len(found) and all(0 <= index < num_frames for index in found)
