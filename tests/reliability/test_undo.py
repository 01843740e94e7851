"""`kill -9` while steps are undone and redone: the next process shows the state before or after, whole and to the bit."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.clips import write_video
from tests.reliability.ledger import FRAMES, HEIGHT, WIDTH, read_masks, upload
from tests.reliability.servers import Server, server

KILLS = 5


def state(http: httpx.Client, session_id: str) -> Any:
    session = http.get(f"/sessions/{session_id}").json()
    return session["objects"], session["prompts"], read_masks(http, session_id, session["frames_with_masks"])


def post(http: httpx.Client, path: str, **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def steps(http: httpx.Client, session_id: str) -> Iterator[None]:
    """Three steps on a tracked object, each tracked."""
    place, more = {"session_id": session_id, "object_id": 1}, [[WIDTH / 3, HEIGHT / 3]]
    for path, body in (("/refine", {"frame_idx": 3, "points": more, "labels": [0]}), ("/clear-prompts", {"frame_idx": 3}),
                       ("/refine", {"frame_idx": 1, "points": more})):
        post(http, path, **place, **body)
        post(http, "/propagate", session_id=session_id, mask_format="none")
        yield


def walk(url: str, session_id: str, chance: random.Random) -> None:
    """Undo and redo until the service is gone."""
    with contextlib.suppress(httpx.TransportError), httpx.Client(base_url=url, timeout=60) as http:
        while True:
            answer = http.post(chance.choice(["/undo", "/redo"]), json={"session_id": session_id})
            assert answer.status_code in (200, 409), answer.text


def killed(service: Server, session_id: str, chance: random.Random) -> None:
    worker = threading.Thread(target=walk, args=[service.url, session_id, random.Random(chance.random())])
    worker.start()
    time.sleep(chance.uniform(0.02, 0.3))
    service.kill()
    worker.join(60)
    assert not worker.is_alive()


def test_kill_9_in_the_middle_of_undo_and_redo(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", FRAMES, WIDTH, HEIGHT)
    chance = random.Random(4)
    with server(tmp_path / "data") as service:
        with httpx.Client(base_url=service.url, timeout=60) as http:
            session_id = upload(http, clip).json()["session_id"]
            post(http, "/add-object", session_id=session_id, points=[[WIDTH / 4, HEIGHT / 2]])
            post(http, "/propagate", session_id=session_id, mask_format="none")
            post(http, "/refine", session_id=session_id, object_id=1, points=[[WIDTH / 4, HEIGHT / 3]])
            states = [state(http, session_id)]
            for _ in steps(http, session_id):
                states.append(state(http, session_id))
        assert all(one != other for one, other in zip(states, states[1:], strict=False))
        earlier = 1 + 1  # the object and its refinement before the first state
        for _ in range(KILLS):
            killed(service, session_id, chance)
            service.start()
            assert "Traceback" not in service.told(), service.told()
            with httpx.Client(base_url=service.url, timeout=60) as http:
                history = http.get(f"/sessions/{session_id}").json()["history"]
                assert len(history["undo"]) + len(history["redo"]) == earlier + 3
                at = len(history["undo"]) - earlier
                if at >= 0:
                    assert state(http, session_id) == states[at]
        with httpx.Client(base_url=service.url, timeout=60) as http:
            while len(http.get(f"/sessions/{session_id}").json()["history"]["undo"]) < earlier:
                post(http, "/redo", session_id=session_id)
            while http.get(f"/sessions/{session_id}").json()["history"]["redo"]:
                post(http, "/redo", session_id=session_id)
            assert state(http, session_id) == states[-1]
            tracked = post(http, "/propagate", session_id=session_id, mask_format="rle")
            fresh = upload(http, clip).json()["session_id"]
            post(http, "/add-object", session_id=fresh, points=[[WIDTH / 4, HEIGHT / 2]])
            post(http, "/propagate", session_id=fresh, mask_format="none")
            post(http, "/refine", session_id=fresh, object_id=1, points=[[WIDTH / 4, HEIGHT / 3]])
            for _ in steps(http, fresh):
                pass
            undisturbed = post(http, "/propagate", session_id=fresh, mask_format="rle")
        one, other = ([item["mask"] for frame in answer["frames"] for item in frame["objects"]]
                      for answer in (tracked, undisturbed))
        assert one == other
