"""Times and rates, without a video."""

from __future__ import annotations

from itertools import pairwise

import pytest
from sam_service.video.clock import FALLBACK_FPS, Clock, Order, mean_rate, rate_of


@pytest.mark.parametrize(("stamps", "times"), [
    ([5.0, 5.04, 5.08], [0, 0.04, 0.08]),
    ([None, None, None], [0, 0.04, 0.08]),
    ([0.0, 0.0, 0.0, 0.0], [0, 0.04, 0.08, 0.12]),
    ([0.0, None, 0.08, None], [0, 0.04, 0.08, 0.12]),
    ([None, 7.0, 7.04], [0, 0.04, 0.08]),
    ([0.0, 1.0, 2.0, 0.0, 1.0], [0, 1, 2, 2.04, 3.04]),
    ([0.0, 3600.0, 7200.0], [0, 3600, 7200]),
])
def test_times_count_from_the_first_and_go_on(stamps: list[float | None], times: list[float]) -> None:
    clock = Clock(25)
    assert [clock.tick(stamp) for stamp in stamps] == pytest.approx(times)


def test_times_rise_whatever_a_file_says() -> None:
    clock = Clock(2000)
    times = [clock.tick(stamp) for stamp in (0.0, 0.0, 0.001, 0.001, 0.002, 0.0015, 0.002, 0.003)]
    assert all(later > earlier for earlier, later in pairwise(times))
    assert times[-1] == pytest.approx(0.003, abs=0.0005)


def test_stamps_of_the_order_of_decoding_are_put_in_the_order_shown() -> None:
    order = Order()
    for stamp in range(6):
        order.sent(stamp)
    shown = [(0, False), (3, True), (2, True), (4, True), (1, False), (5, False)]
    assert [order.shown(stamp, is_between) for stamp, is_between in shown] == [0, 1, 2, 3, 4, 5]


def test_a_picture_that_is_missing_shifts_no_stamp() -> None:
    order = Order()
    for stamp in (0, 1, None, 3, 4):
        order.sent(stamp)
    assert [order.shown(stamp, False) for stamp in (0, 3, None, 4, 9)] == [0, 3, None, 4, 9]


def test_the_rate_is_the_mean_or_what_is_claimed_where_both_say_the_same() -> None:
    assert mean_rate(24, 0.958, 24.0) == 24.0
    assert mean_rate(24, 6.0, 24.0) == pytest.approx(23 / 6)
    assert mean_rate(1, 0.0, 24.0) is None
    assert rate_of([], 1000.0) == 1000.0
    assert rate_of([], 90_000.0) == FALLBACK_FPS
    assert rate_of([0.0, 0.0], None) == FALLBACK_FPS
    assert rate_of([0.0, 0.051, 0.12, 0.167], 1000.0) == pytest.approx(3 / 0.167)
