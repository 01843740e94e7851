"""Any sequence of calls on sessions, against a plain model of what they are: lists, prompts, masks, status codes, restarts."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sam_service.client import SamClient
from sam_service.local import local_service

from tests.clips import write_video
from tests.support import settings

FRAMES, WIDTH, HEIGHT = 5, 160, 120
MAX_SESSIONS, MAX_OBJECTS = 3, 3

FRAME = st.sampled_from([0, 0, 1, 2, 3, 4, FRAMES])
OBJECT = st.sampled_from([0, 1, 1, 2, 2, 3, 7])
SESSION = st.integers(0, MAX_SESSIONS)
POINT = st.tuples(st.integers(0, WIDTH), st.integers(0, HEIGHT))
LABEL = st.sampled_from([1, 1, 1, 0])
UNKNOWN = "0" * 32


@dataclass
class Step:
    """What can be undone or redone. other: prompts, names, masks and the highest id on its other side."""

    objects: tuple[int, ...]
    other: tuple[dict[int, dict[int, list[int]]], dict[int, str], dict[tuple[int, int], str], int]


@dataclass
class Known:
    """A session as it should be. prompts: labels of the points by object and frame. masks: by frame and object."""

    session_id: str
    prompts: dict[int, dict[int, list[int]]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    masks: dict[tuple[int, int], str] = field(default_factory=dict)
    highest: int = 0
    done: list[Step] = field(default_factory=list)
    undone: list[Step] = field(default_factory=list)

    def step(self, *objects: int) -> None:
        """A step begins. objects: those whose masks come back with it."""
        self.done.append(Step(objects, copy.deepcopy((self.prompts, self.names, self.masks, self.highest))))
        self.undone = []

    def switch(self, step: Step) -> Step:
        """Go to the other side of a step; returns the step as seen from there."""
        now = copy.deepcopy((self.prompts, self.names, self.masks, self.highest))
        self.prompts, self.names, masks, self.highest = step.other
        self.masks = {place: counts for place, counts in self.masks.items() if place[1] not in step.objects}
        self.masks |= {place: counts for place, counts in masks.items() if place[1] in step.objects}
        return Step(step.objects, now)

    def drop_masks(self, object_id: int) -> None:
        self.masks = {place: counts for place, counts in self.masks.items() if place[1] != object_id}

    def plan(self, start: int | None, end: int | None, direction: str, chosen: Sequence[int] | None) -> int | list[int]:
        """The frames that a propagation goes over, or the status that refuses it."""
        if any(frame is not None and frame >= FRAMES for frame in (start, end)):
            return 404
        if chosen is not None and any(number not in self.prompts for number in chosen):
            return 404
        prompted = [frame for number in (self.prompts if chosen is None else chosen) for frame in self.prompts[number]]
        if not prompted:
            return 409
        first = min(prompted) if start is None else start
        if end is not None and (end > first if direction == "backward" else end < first):
            return 422
        ahead = range(first, FRAMES if end is None else end + 1)
        match direction:
            case "forward":
                return list(ahead)
            case "backward":
                return list(range(first, (end or 0) - 1, -1))
            case _:
                return [*ahead, *range(first - 1, -1, -1)]


class Place:
    """A service in this process, on one folder; it can be ended and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clip = write_video(folder / "clip.mp4", FRAMES, WIDTH, HEIGHT)
        self._stack = contextlib.ExitStack()
        self.start()

    def start(self) -> None:
        options = settings(sam2_video_dir=self.folder, max_sessions=MAX_SESSIONS, max_objects=MAX_OBJECTS,
                           sam2_image_size=128, torch_num_threads=1, min_free_disk_mb=0)
        url = self._stack.enter_context(local_service(options, data_dir=self.folder / "data"))
        client = self._stack.enter_context(SamClient(url, timeout_s=60))
        client.wait_ready()
        self.http = client.http

    def stop(self) -> None:
        self._stack.close()


class Sessions(RuleBasedStateMachine):
    """The machine that makes up the calls."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.open: list[Known] = []
        self.gone: list[str] = []
        self.calls = 0

    def teardown(self) -> None:
        for known in self.open:
            self.place.http.delete(f"/sessions/{known.session_id}")

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        self.calls += 1
        answer = self.place.http.request(method, path, json=body)
        note(f"{method} {path} {body} -> {answer.status_code}")
        return answer

    def expect(self, answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, f"expected {status}: {answer.status_code} {answer.text[:500]}"
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.json() if answer.content else None

    def pick(self, number: int) -> Known | None:
        return self.open[number] if number < len(self.open) else None

    @rule()
    def open_one(self) -> None:
        answer = self.call("POST", "/initialize", {"video_path": "clip.mp4"})
        if len(self.open) == MAX_SESSIONS:
            self.expect(answer, 429)
        else:
            self.open.append(Known(self.expect(answer, 201)["session_id"]))

    @rule(session=SESSION, frame=FRAME, number=st.none() | OBJECT, point=POINT, label=LABEL, named=st.booleans())
    def add(self, session: int, frame: int, number: int | None, point: tuple[int, int], label: int, named: bool) -> None:
        known = self.pick(session)
        body = {"session_id": known.session_id if known else UNKNOWN, "frame_idx": frame, "points": [point], "labels": [label],
                "mask_format": "rle", "object_id": number, "name": "cup" if named else None}
        answer = self.call("POST", "/add-object", body)
        if known is None or frame >= FRAMES:
            self.expect(answer, 404)
        elif label == 0:
            self.expect(answer, 422)
        elif number in known.prompts or len(known.prompts) == MAX_OBJECTS:
            self.expect(answer, 409)
        else:
            number = known.highest + 1 if number is None else number
            document = self.expect(answer, 200)
            assert document["object_id"] == number
            known.step(number)
            known.highest = max(known.highest, number)
            known.prompts[number] = {frame: [label]}
            known.masks[frame, number] = document["mask"]["counts"]
            if named:
                known.names[number] = "cup"

    @rule(session=SESSION, frame=FRAME, number=OBJECT, point=POINT, label=LABEL, replace=st.booleans())
    def refine(self, session: int, frame: int, number: int, point: tuple[int, int], label: int, replace: bool) -> None:
        known = self.pick(session)
        answer = self.call("POST", "/refine", {
            "session_id": known.session_id if known else UNKNOWN, "frame_idx": frame, "points": [point], "labels": [label],
            "object_id": number, "replace": replace, "mask_format": "rle"})
        if known is None or number not in known.prompts or frame >= FRAMES:
            self.expect(answer, 404)
            return
        prompts = known.prompts[number]
        labels = [*([] if replace else prompts.get(frame, [])), label]
        if not prompts.keys() - {frame} and 1 not in labels:
            self.expect(answer, 422)
        else:
            known.step(number)
            prompts = known.prompts[number]
            prompts[frame] = labels
            known.masks[frame, number] = self.expect(answer, 200)["mask"]["counts"]

    @rule(session=SESSION, number=st.none() | OBJECT, frame=st.none() | FRAME)
    def clear(self, session: int, number: int | None, frame: int | None) -> None:
        known = self.pick(session)
        answer = self.call("POST", "/clear-prompts", {"session_id": known.session_id if known else UNKNOWN,
                                                      "object_id": number, "frame_idx": frame})
        if known is None or (frame is not None and frame >= FRAMES) or (number is not None and number not in known.prompts):
            self.expect(answer, 404)
            return
        cleared = 0
        objects = [each for each, frames in known.prompts.items() if number in (None, each)
                   and (frames if frame is None else frame in frames)]
        if objects:
            known.step(*objects)
        for each in list(known.prompts) if number is None else [number]:
            for at in [at for at in known.prompts[each] if frame is None or at == frame]:
                del known.prompts[each][at]
                cleared += 1
                if not known.prompts[each]:
                    known.drop_masks(each)
        assert self.expect(answer, 200)["cleared"] == cleared

    @rule(session=SESSION, number=OBJECT)
    def remove(self, session: int, number: int) -> None:
        known = self.pick(session)
        body = {"session_id": known.session_id if known else UNKNOWN, "object_id": number}
        answer = self.call("POST", "/remove-object", body)
        if known is None or number not in known.prompts:
            self.expect(answer, 404)
        else:
            assert self.expect(answer, 200)["object_ids"] == [each for each in known.prompts if each != number]
            known.step(number)
            del known.prompts[number]
            known.names.pop(number, None)
            known.drop_masks(number)

    @rule(session=SESSION, number=OBJECT, name=st.sampled_from(["ball", "  red   cup ", "", "x" * 81, "a\nb", "\u200b"]))
    def label(self, session: int, number: int, name: str) -> None:
        known = self.pick(session)
        answer = self.call("PATCH", f"/sessions/{known.session_id if known else UNKNOWN}/objects/{number}", {"name": name})
        if known is None or number not in known.prompts:
            self.expect(answer, 404)
        elif name in ("", "x" * 81, "\u200b"):
            self.expect(answer, 422)
        else:
            known.step()
            known.names[number] = self.expect(answer, 200)["name"]
            assert known.names[number] == " ".join(name.split())

    @rule(session=SESSION, start=st.none() | FRAME, end=st.none() | FRAME, chosen=st.none() | st.lists(OBJECT, min_size=1,
          max_size=2), direction=st.sampled_from(["forward", "forward", "backward", "both"]))
    def propagate(self, session: int, start: int | None, end: int | None, chosen: list[int] | None, direction: str) -> None:
        known = self.pick(session)
        body = {"session_id": known.session_id if known else UNKNOWN, "start_frame": start, "end_frame": end,
                "object_ids": chosen, "direction": direction, "mask_format": "rle"}
        answer = self.call("POST", "/propagate", body)
        plan = 404 if known is None else known.plan(start, end, direction, chosen)
        if known is None or isinstance(plan, int):
            self.expect(answer, plan if isinstance(plan, int) else 404)
            return
        known.undone = []
        frames = self.expect(answer, 200)["frames"]
        assert [frame["frame_idx"] for frame in frames] == plan
        listed = list(dict.fromkeys(chosen)) if chosen is not None else list(known.prompts)
        for frame in frames:
            assert [item["object_id"] for item in frame["objects"]] == listed
            for item in frame["objects"]:
                place = frame["frame_idx"], item["object_id"]
                if frame["frame_idx"] not in known.prompts[place[1]] and known.prompts[place[1]]:
                    known.masks[place] = item["mask"]["counts"]
                if not known.prompts[place[1]]:
                    assert item["area"] == 0

    @rule(session=SESSION, stop=st.sampled_from(["cancel", "delete job", "delete session", "restart"]))
    def propagate_and_stop(self, session: int, stop: str) -> None:
        known = self.pick(session)
        body = {"session_id": known.session_id if known else UNKNOWN, "background": True}
        answer = self.call("POST", "/propagate", body)
        plan = 404 if known is None else known.plan(None, None, "forward", None)
        if known is None or isinstance(plan, int):
            self.expect(answer, plan if isinstance(plan, int) else 404)
            return
        job_id = self.expect(answer, 202)["job_id"]
        known.undone = []
        match stop:
            case "cancel":
                document = self.expect(self.call("POST", f"/sessions/{known.session_id}/cancel"), 200)
                assert document["cancelled"] in ([], [job_id])
            case "delete job":
                assert self.expect(self.call("DELETE", f"/jobs/{job_id}"), 200)["state"] in ("cancelled", "done")
            case "delete session":
                return self.delete(session)
            case "restart":
                self.restart()
                while self.expect(self.call("GET", f"/jobs/{job_id}"), 200)["state"] in ("running", "interrupted"):
                    pass
        self._look_again(known, plan)

    def _look_again(self, known: Known, plan: list[int]) -> None:
        """Take over the masks of a propagation that was stopped somewhere: what there was is there, and nothing unplanned."""
        now = self._stored(known)
        planned = {(frame, number) for frame in plan for number, prompts in known.prompts.items()
                   if prompts and frame not in prompts}
        for place, counts in known.masks.items():
            assert place in now and (place in planned or now[place] == counts)
        assert now.keys() <= known.masks.keys() | planned
        known.masks = now

    @rule(session=SESSION, redo=st.sampled_from([False, False, True]))
    def undo(self, session: int, redo: bool) -> None:
        known = self.pick(session)
        answer = self.call("POST", "/redo" if redo else "/undo", {"session_id": known.session_id if known else UNKNOWN})
        if known is None:
            self.expect(answer, 404)
        elif not (known.undone if redo else known.done):
            assert self.expect(answer, 409)["code"] == ("nothing_to_redo" if redo else "nothing_to_undo")
        else:
            document = self.expect(answer, 200)
            if redo:
                known.done.append(known.switch(known.undone.pop()))
            else:
                known.undone.append(known.switch(known.done.pop()))
            assert document["object_ids"] == list(known.prompts)
            assert [len(steps) for steps in document["history"].values()] == [len(known.done), len(known.undone)]

    @rule(session=SESSION)
    def delete(self, session: int) -> None:
        known = self.pick(session)
        self.expect(self.call("DELETE", f"/sessions/{known.session_id if known else UNKNOWN}"), 204)
        if known is not None:
            self.open.remove(known)
            self.gone.append(known.session_id)

    @precondition(lambda self: self.calls > 10 and self.open)
    @rule()
    def restart(self) -> None:
        note("restart")
        self.calls = 0
        self.place.stop()
        self.place.start()

    @invariant()
    def the_service_knows_the_same(self) -> None:
        listed = self.place.http.get("/sessions").json()["sessions"]
        assert [item["session_id"] for item in listed] == [known.session_id for known in self.open]
        for known, state in zip(self.open, listed, strict=True):
            assert [item["object_id"] for item in state["objects"]] == list(known.prompts)
            for item in state["objects"]:
                number = item["object_id"]
                assert item["name"] == known.names.get(number, f"object {number}")
                assert item["prompted_frames"] == sorted(known.prompts[number])
            labels = {(item["object_id"], item["frame_idx"]): item["labels"] for item in state["prompts"]}
            assert labels == {(number, frame): given for number, frames in known.prompts.items()
                              for frame, given in frames.items()}
            assert self._stored(known) == known.masks
            assert state["frames_with_masks"] == sorted({frame for frame, _ in known.masks})
        for session_id in self.gone[-2:]:
            self.expect(self.place.http.get(f"/sessions/{session_id}"), 404)

    def _stored(self, known: Known) -> dict[tuple[int, int], str]:
        tracks = self.place.http.get(f"/sessions/{known.session_id}/tracks").json()["objects"]
        frames = sorted({frame for track in tracks for frame in track["frames"]})
        found = {}
        for frame in frames:
            path = f"/sessions/{known.session_id}/masks/{frame}?mask_format=rle"
            for item in self.expect(self.place.http.get(path), 200)["objects"]:
                found[frame, item["object_id"]] = item["mask"]["counts"]
        assert {(frame, track["object_id"]) for track in tracks for frame in track["frames"]} == found.keys()
        return found


def run(examples: int, steps: int, *, derandomize: bool) -> None:
    """Make up `examples` sequences of at most `steps` calls."""
    with tempfile.TemporaryDirectory() as folder:
        Sessions.place = Place(Path(folder))
        phases = [Phase.generate] if derandomize else [Phase.generate, Phase.shrink]
        try:
            run_state_machine_as_test(Sessions, settings=hypothesis_settings(
                max_examples=examples, stateful_step_count=steps, deadline=None, database=None, derandomize=derandomize,
                phases=phases, suppress_health_check=list(HealthCheck)))
        finally:
            Sessions.place.stop()


def test_any_sequence_of_calls() -> None:
    run(5, 40, derandomize=True)


@pytest.mark.slow
def test_any_sequence_of_calls_at_length() -> None:
    run(150, 60, derandomize=False)
