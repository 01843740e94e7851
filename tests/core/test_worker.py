"""The worker: clicks first, sessions in turn, a bound, failures that stay with their caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
from sam_service.core import worker as workers
from sam_service.core.worker import Priority, Worker
from sam_service.errors import NotReady, QueueFull


def test_clicks_go_before_frames_and_frames_in_order_of_arrival() -> None:
    worker, gate, order = Worker(), threading.Event(), list[str]()
    worker.start()
    worker.submit(gate.wait)
    futures = [worker.submit(partial(order.append, name), priority) for name, priority in
               [("frame 1", Priority.FRAME), ("frame 2", Priority.FRAME), ("click", Priority.CLICK)]]
    gate.set()
    for future in futures:
        future.result(5)
    assert order == ["click", "frame 1", "frame 2"]
    worker.stop()
    assert not worker.alive


def test_a_full_queue_refuses() -> None:
    worker = Worker(max_queued=1)
    worker.submit(lambda: None)
    with pytest.raises(QueueFull):
        worker.submit(lambda: None)


def test_a_failing_step_fails_its_caller_and_nobody_else() -> None:
    worker = Worker()
    worker.start()
    failing = worker.submit(lambda: 1 / 0)
    assert worker.submit(lambda: 7).result(5) == 7
    with pytest.raises(ZeroDivisionError):
        failing.result(5)
    worker.stop()
    with pytest.raises(NotReady):
        worker.submit(lambda: None)


def test_a_worker_that_stops_while_its_spare_thread_starts_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[threading.Thread] = []

    class LateSpare(workers._Spare):
        def __init__(self, work: Callable[[], None]) -> None:
            super().__init__(work)
            made.append(self._thread)
            stopper = threading.Thread(target=worker.stop, args=(0,))
            stopper.start()
            stopper.join()

    monkeypatch.setattr(workers, "_Spare", LateSpare)
    worker = Worker()
    worker.start()
    worker.submit(lambda: None).result(30)
    worker._thread.join(30)
    made[0].join(10)
    assert not made[0].is_alive() and not worker.alive
