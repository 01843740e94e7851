"""More clients than there is room for: some are told to come back, all are served in the end, and nothing is mixed up."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.clips import write_video
from tests.reliability.ledger import Counts, masks_of
from tests.reliability.servers import server

CLIENTS, FRAMES = 16, 6
CLICKS = [[30.0, 60.0], [100.0, 30.0], [60.0, 90.0], [140.0, 100.0]]
PATIENCE_S = 0.05  # less than the service asks for, so that the test is quick and the load is high


class Client:
    """One client, with a click of its own; comes back as often as it is refused."""

    def __init__(self, url: str, number: int) -> None:
        self.url, self.click = url, CLICKS[number % len(CLICKS)]
        self.masks: Counts = {}
        self.refused: Counter[tuple[int, str]] = Counter()
        self.failure: Exception | None = None

    def work(self) -> None:
        """Open, click, correct, propagate, delete. What goes wrong is kept in `failure`."""
        try:
            with httpx.Client(base_url=self.url, timeout=120) as http:
                session = self.call(http, "/initialize", {"video_path": "clip.mp4"})
                body = {"session_id": session["session_id"], "mask_format": "rle"}
                self.call(http, "/add-object", body | {"points": [self.click]})
                self.call(http, "/refine", body | {"object_id": 1, "points": [[self.click[0] + 8, self.click[1]]]})
                for frame in self.call(http, "/propagate", body)["frames"]:
                    self.masks |= masks_of(frame)
                http.delete(f"/sessions/{session['session_id']}").raise_for_status()
        except Exception as error:
            self.failure = error

    def call(self, http: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One call, as often as it takes."""
        while True:
            answer = http.post(path, json=body)
            document: dict[str, Any] = json.loads(answer.content)
            if answer.status_code not in (429, 503):
                assert answer.is_success, document
                return document
            assert int(answer.headers["retry-after"]) == document["retry_after_s"] > 0
            self.refused[answer.status_code, document["code"]] += 1
            time.sleep(PATIENCE_S)


def test_16_clients_at_once(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", FRAMES)
    with server(tmp_path / "data", SAM2_VIDEO_DIR=str(tmp_path), MAX_SESSIONS="8", MAX_QUEUED_STEPS="2") as service:
        clients = [Client(service.url, number) for number in range(CLIENTS)]
        threads = [threading.Thread(target=client.work) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        for client in clients:
            if client.failure is not None:
                raise client.failure
        refused = sum((client.refused for client in clients), Counter[tuple[int, str]]())
        assert refused.keys() == {(429, "too_many_sessions"), (503, "queue_full")}
        alone = [Client(service.url, number) for number in range(len(CLICKS))]
        for client in alone:
            client.work()
            assert client.failure is None and not client.refused
        for number, client in enumerate(clients):
            assert len(client.masks) == FRAMES
            assert client.masks == alone[number % len(CLICKS)].masks
        with httpx.Client(base_url=service.url) as http:
            assert http.get("/health").json()["sessions"]["open"] == 0
        assert "Traceback" not in service.told()
