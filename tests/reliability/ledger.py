"""What a service has answered, kept by its client, to be held against the service after a crash."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

FRAMES = 10
WIDTH, HEIGHT = 160, 120

Call = tuple[str, str, dict[str, Any]]  # method, path below the service, body
Counts = dict[tuple[int, int], str]  # mask by frame and object, compressed


@dataclass
class Ledger:
    """One session as its client knows it.

    calls: what changed it and was answered, in order. doubtful: a call that was sent and not answered. objects: name, colour
    and points by object. masks: what was answered last for a frame and object. tracked: the propagation was begun, from where
    on no prompt changes. opened, deleted: answered so.
    """

    session_id: str = ""
    calls: list[Call] = field(default_factory=list)
    doubtful: Call | None = None
    objects: dict[int, dict[str, Any]] = field(default_factory=dict)
    masks: Counts = field(default_factory=dict)
    tracked: bool = False
    deleted: bool = False
    deleting: bool = False

    def send(self, http: httpx.Client, call: Call) -> None:
        """Send a call that changes objects; it is doubtful until its answer is here."""
        self.doubtful = call
        method, path, body = call
        answer = http.request(method, path.format(id=self.session_id), json=body)
        assert answer.status_code == 200, answer.text
        self.take(call, answer.json())

    def take(self, call: Call, answer: dict[str, Any] | None) -> None:
        """A call took effect. answer: what it was answered, if that arrived."""
        _, path, body = call
        self.calls.append(call)
        self.doubtful = None
        if path.startswith("/sessions/"):
            self.objects[int(path.rsplit("/", 1)[1])].update(body)
            return
        known = self.objects.setdefault(body["object_id"], {"points": {}})
        known["points"].setdefault(body["frame_idx"], []).extend(body["points"])
        if "name" in body:
            known["name"] = body["name"]
        if answer is not None:
            self.masks[body["frame_idx"], body["object_id"]] = answer["mask"]["counts"]

    def next_call(self, chance: random.Random) -> Call | None:
        """What a user would do next before the propagation: add, correct, name; None for enough of that."""
        if self.objects and chance.random() < 0.3:
            return None
        point = [chance.uniform(0, WIDTH), chance.uniform(0, HEIGHT)]
        body: dict[str, Any] = {"session_id": self.session_id, "points": [point], "mask_format": "rle"}
        if not self.objects or (len(self.objects) < 3 and chance.random() < 0.4):
            number = len(self.objects) + 1
            named = {"name": f"thing {chance.randrange(100)}"} if chance.random() < 0.5 else {}
            body |= {"object_id": number, "frame_idx": chance.choice([0, 0, 4]), "labels": [1]}
            return "POST", "/add-object", body | named
        number = chance.choice(list(self.objects))
        if chance.random() < 0.3:
            label = {"name": f"thing {chance.randrange(100)}", "color": f"#{chance.randrange(1 << 24):06x}"}
            return "PATCH", f"/sessions/{{id}}/objects/{number}", label
        frame = chance.choice(list(self.objects[number]["points"]))
        return "POST", "/refine", body | {"object_id": number, "frame_idx": frame, "labels": [chance.choice([0, 1])]}

    def differs(self, state: dict[str, Any]) -> str:
        """Where a session's state is not what was answered; nothing where it is."""
        found = {item["object_id"]: item for item in state["objects"]}
        if found.keys() != self.objects.keys():
            return f"objects {sorted(found)}, answered were {sorted(self.objects)}"
        for number, known in self.objects.items():
            for name in known.keys() - {"points"}:
                if found[number][name] != known[name]:
                    return f"object {number}: {name} is {found[number][name]!r}, answered was {known[name]!r}"
            clicks = {prompt["frame_idx"]: prompt["points"] for prompt in state["prompts"] if prompt["object_id"] == number}
            if not _close(clicks, known["points"]):
                return f"object {number}: points {clicks}, answered were {known['points']}"
        return ""


def events(http: httpx.Client, method: str, path: str, accept: str, body: dict[str, Any] | None = None,
           unless: str = "") -> Iterator[dict[str, Any]]:
    """Events of a stream, NDJSON or server-sent; none where it is refused with the code `unless`."""
    with http.stream(method, path, json=body, headers={"Accept": accept}) as response:
        if unless and response.status_code == 409 and unless in response.read().decode():
            return
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            text = line.removeprefix("data: ")
            if text.startswith("{"):
                yield json.loads(text)


def read_masks(http: httpx.Client, session_id: str, frames: list[int]) -> Counts:
    """The stored masks of some frames."""
    found: Counts = {}
    for frame in frames:
        answer = http.get(f"/sessions/{session_id}/masks/{frame}", params={"mask_format": "rle"})
        assert answer.status_code == 200, answer.text
        found |= {(frame, item["object_id"]): item["mask"]["counts"] for item in answer.json()["objects"]}
    return found


def masks_of(event: dict[str, Any]) -> Counts:
    """The masks of a `frame` event, or of a frame of a whole propagation."""
    return {(event["frame_idx"], item["object_id"]): item["mask"]["counts"] for item in event["objects"]}


def upload(http: httpx.Client, clip: Path) -> httpx.Response:
    """Open a clip by upload."""
    with clip.open("rb") as file:
        return http.post("/initialize", files={"file": (clip.name, file)}, data={"max_frames": str(FRAMES)})


def _close(found: dict[int, list[list[float]]], expected: dict[int, list[list[float]]]) -> bool:
    """Whether two sets of points are the same to the precision of float32."""
    return found.keys() == expected.keys() and all(
        len(found[frame]) == len(points) and all(
            abs(a - b) < 1e-3 for one, other in zip(found[frame], points, strict=True)
            for a, b in zip(one, other, strict=True))
        for frame, points in expected.items())
