"""SIGKILL at random moments under load: what was answered is there after the restart, and the work goes on from it.

    KILLS=100 make test-all        or only this: KILLS=100 python -m pytest -m '' tests/reliability/test_kill.py -s
"""

from __future__ import annotations

import copy
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clips import write_video
from tests.reliability.ledger import FRAMES, HEIGHT, WIDTH, Counts, Ledger, events, masks_of, read_masks, upload
from tests.reliability.servers import Server

USERS = 3
KILLS_IN_THE_SUITE, KILLS = 20, int(os.environ.get("KILLS", "20"))
JSON, NDJSON, SSE = "application/json", "application/x-ndjson", "text/event-stream"


class User:
    """Somebody who opens a clip, marks objects, propagates, looks at the masks, deletes, and begins again; after each crash
    where he was."""

    def __init__(self, clip: Path, seed: int) -> None:
        self.clip = clip
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.finished: list[Ledger] = []
        self.gone: list[str] = []
        self.did: Counter[str] = Counter()
        self.failure: Exception | None = None

    def work(self, url: str) -> None:
        """Work until the service is gone. What goes wrong otherwise is kept in `failure`."""
        try:
            with httpx.Client(base_url=url, timeout=60) as http:
                while True:
                    self._session(http)
        except httpx.TransportError:
            pass
        except Exception as error:
            self.failure = error

    def _session(self, http: httpx.Client) -> None:
        ledger = self.ledger
        if not ledger.session_id:
            answer = upload(http, self.clip)
            assert answer.status_code == 201, answer.text
            ledger.session_id = answer.json()["session_id"]
            self.did["opened"] += 1
        while not ledger.tracked and (call := ledger.next_call(self.chance)) is not None:
            ledger.send(http, call)
            self.did["changed"] += 1
        ledger.tracked = True
        if self._propagate(http):
            self.did["propagated"] += 1
            assert read_masks(http, ledger.session_id, list(range(FRAMES))) == ledger.masks
            ledger.deleting = True
            assert http.delete(f"/sessions/{ledger.session_id}").status_code == 204
            self._let_go()

    def _propagate(self, http: httpx.Client) -> bool:
        """Propagate in one of the four ways, or follow what goes on already; whether it came to its end."""
        session_id = self.ledger.session_id
        running = http.get(f"/sessions/{session_id}").json()["running"]
        way = self.chance.choice([JSON, NDJSON, SSE, "background"]) if running is None else "background"
        body = {"session_id": session_id, "mask_format": "rle"}
        self.did[f"propagating {way}" if running is None else "propagating on"] += 1
        if way == JSON:
            answer = http.post("/propagate", json=body)
            if _taken_up(answer):
                return False
            assert answer.status_code == 200, answer.text
            for frame in answer.json()["frames"]:
                self.ledger.masks |= masks_of(frame)
            return True
        if way == "background":
            if running is None:
                answer = http.post("/propagate", json=body | {"background": True})
                if _taken_up(answer):
                    return False
                assert answer.status_code == 202, answer.text
                running = answer.json()
            told = events(http, "GET", f"/jobs/{running['job_id']}/events?mask_format=rle", SSE)
        else:
            told = events(http, "POST", "/propagate", way, body, unless="propagation_running")
        for event in told:
            if event["event"] == "frame":
                self.ledger.masks |= masks_of(event)
            assert event["event"] != "error", event
            if event["event"] == "end":
                assert event["state"] == "done", event
                return {frame for frame, _ in self.ledger.masks} == set(range(FRAMES))
        raise httpx.ReadError("the stream broke off")

    def _let_go(self) -> None:
        self.did["deleted"] += 1
        self.gone.append(self.ledger.session_id)
        self.finished.append(self.ledger)
        self.ledger = Ledger()

    def check(self, http: httpx.Client) -> None:
        """Hold the service, started anew, against the ledger."""
        ledger = self.ledger
        for session_id in self.gone:
            assert http.get(f"/sessions/{session_id}").status_code == 404
        if not ledger.session_id:
            return
        answer = http.get(f"/sessions/{ledger.session_id}")
        if ledger.deleting and answer.status_code == 404:
            return self._let_go()
        assert answer.status_code == 200, answer.text
        ledger.deleting = False
        state = answer.json()
        if ledger.doubtful is not None:
            ledger = self.ledger = _resolved(ledger, state)
        assert not ledger.differs(state), ledger.differs(state)
        stored = read_masks(http, ledger.session_id, state["frames_with_masks"])
        lost = {place for place, counts in ledger.masks.items() if stored.get(place) != counts}
        assert not lost, f"answered and not stored, or otherwise: {sorted(lost)}"


def _taken_up(answer: httpx.Response) -> bool:
    """Whether a job of the process before has gone on in the moment since the session was looked at."""
    return answer.status_code == 409 and answer.json()["code"] == "propagation_running"


def _resolved(ledger: Ledger, state: dict[str, Any]) -> Ledger:
    """The ledger with the call that was not answered, if it took effect; an object may be there without its name."""
    assert ledger.doubtful is not None
    method, path, body = ledger.doubtful
    for call in [(method, path, body), (method, path, {key: body[key] for key in body if key != "name"})]:
        applied = copy.deepcopy(ledger)
        applied.take(call, None)
        applied.masks.pop((body.get("frame_idx", 0), body.get("object_id", 0)), None)
        if not applied.differs(state):
            return applied
    ledger.doubtful = None
    return ledger


class SlowUploader:
    """Somebody whose upload takes so long that the crash comes in the middle of it."""

    def __init__(self, clip: Path) -> None:
        self.body = (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' + clip.read_bytes()
                     + b"\r\n--x--\r\n")

    def work(self, url: str) -> None:
        """Upload until the service is gone."""
        def slowly() -> Iterator[bytes]:
            for start in range(0, len(self.body), 2000):
                yield self.body[start:start + 2000]
                time.sleep(0.05)
        try:
            with httpx.Client(base_url=url, timeout=60) as http:
                while True:
                    headers = {"Content-Type": "multipart/form-data; boundary=x"}
                    answer = http.post("/initialize", content=slowly(), headers=headers)
                    if answer.status_code == 201:
                        http.delete(f"/sessions/{answer.json()['session_id']}")
        except httpx.TransportError:
            pass


def check_database(data: Path) -> None:
    """The database opens and is whole."""
    with closing(sqlite3.connect(data / "sessions.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def check_frames(http: httpx.Client, data: Path, session_ids: list[str]) -> None:
    """All sessions end up with all their frames, each a whole picture; no other folder and no half upload is left."""
    for session_id in session_ids:
        for frame in range(FRAMES):
            answer = http.get(f"/sessions/{session_id}/frames/{frame}")
            assert answer.status_code == 200 and answer.content.endswith(b"\xff\xd9"), answer.text[:200]
    folders = {folder.name for folder in (data / "sessions").iterdir()}
    assert folders == set(session_ids)
    assert not list(data.glob("upload-*"))


def undisturbed(http: httpx.Client, clip: Path, ledger: Ledger) -> Counts:
    """The masks of a session with the same calls that nothing befell."""
    fresh = Ledger(upload(http, clip).json()["session_id"])
    for method, path, body in ledger.calls:
        fresh.send(http, (method, path, body | ({"session_id": fresh.session_id} if "session_id" in body else {})))
    answer = http.post("/propagate", json={"session_id": fresh.session_id, "mask_format": "rle"})
    masks: Counts = {}
    for frame in answer.json()["frames"]:
        masks |= masks_of(frame)
    http.delete(f"/sessions/{fresh.session_id}")
    return masks


def crash_often(tmp_path: Path, kills: int, seed: int, longest_s: float = 2.0) -> None:
    """Kill a service `kills` times under the load of all users, check everything after each, and let all come to its end."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    clip = write_video(tmp_path / "clip.mp4", FRAMES, WIDTH, HEIGHT)
    service = Server(tmp_path / "data")
    users = [User(clip, seed + number) for number in range(USERS)]
    try:
        for number in range(kills):
            if number and chance.random() < 0.2:  # in the middle of the start
                service.spawn()
                time.sleep(chance.uniform(0, 0.8))
                service.kill()
            service.start()
            check_all(service, users)
            crash(service, [*users, SlowUploader(clip)], chance.uniform(0.05, longest_s))
            for user in users:
                if user.failure is not None:
                    raise AssertionError(f"after {number} kills: {service.told()[-2000:]}") from user.failure
            assert "Traceback" not in service.told(), service.told()
        finish(service, users, clip)
    finally:
        if service.alive:
            service.kill()


def check_all(service: Server, users: list[User]) -> None:
    """Hold the service, started anew, against what all users know; what was opened and nobody was told of is deleted."""
    with httpx.Client(base_url=service.url, timeout=60) as http:
        for user in users:
            user.check(http)
        listed = [item["session_id"] for item in http.get("/sessions").json()["sessions"]]
        open_now = {user.ledger.session_id for user in users} - {""}
        assert open_now <= set(listed)
        check_frames(http, service.data, listed)
        for session_id in set(listed) - open_now:
            http.delete(f"/sessions/{session_id}")


def crash(service: Server, workers: Sequence[User | SlowUploader], after_s: float) -> None:
    """Let everybody work for a while, and kill the service."""
    threads = [threading.Thread(target=worker.work, args=[service.url]) for worker in workers]
    for thread in threads:
        thread.start()
    time.sleep(after_s)
    assert service.alive, service.told()
    service.kill()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    check_database(service.data)


def finish(service: Server, users: list[User], clip: Path) -> None:
    """All that was begun comes to its end, with the masks of sessions that nothing befell."""
    service.start()
    check_all(service, users)
    with httpx.Client(base_url=service.url, timeout=60) as http:
        for user in users:
            goal = len(user.finished) + 1
            while len(user.finished) < goal:
                user._session(http)
            for ledger in user.finished:
                alone = undisturbed(http, clip, ledger)
                other = sorted(place for place in alone.keys() | ledger.masks.keys()
                               if alone.get(place) != ledger.masks.get(place))
                assert not other, f"not as in an undisturbed run: {other} after {ledger.calls}"
        assert http.get("/sessions").json()["sessions"] == []
    service.kill()
    print({name: sum(user.did[name] for user in users) for name in users[0].did})


def test_kill_9_under_load(tmp_path: Path) -> None:
    crash_often(tmp_path, KILLS_IN_THE_SUITE, seed=1, longest_s=1.0)


@pytest.mark.slow
def test_kill_9_under_load_often(tmp_path: Path) -> None:
    crash_often(tmp_path, KILLS, seed=random.randrange(1 << 30))
