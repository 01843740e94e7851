"""Objects as a whole: locked, moved in the list, merged, said to be out of the picture, all removed; each is one step."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sam_service.client import SamClient, ServiceProblem, VideoSession
from sam_service.demo_clip import CLICK
from sam_service.local import local_service

from tests.support import settings

BALL, WALL = [list(CLICK)], [[100, 100]]
FRAMES = 8


@pytest.fixture
def video(client: SamClient, clip: Path) -> Iterator[VideoSession]:
    """A session with two objects, tracked."""
    with client.open_video(clip, max_frames=FRAMES) as opened:
        opened.add_object(points=BALL, name="ball")
        opened.add_object(points=WALL, frame_idx=2)
        list(opened.propagate(direction="both"))
        yield opened


def areas(video: VideoSession, object_id: int) -> dict[int, int]:
    track = video.tracks()[object_id]
    return dict(zip(track.frames.tolist(), track.area.tolist(), strict=True))


def state(video: VideoSession) -> Any:
    """All that undo gives back, the masks in full."""
    session = video.state()
    masks = {index: video.masks(index).masks for index in session["frames_with_masks"]}
    return session["objects"], session["prompts"], {
        (index, number): (mask.rle, mask.score) for index, found in masks.items() for number, mask in found.items()}


def refused(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ServiceProblem) as caught:
        call()
    return caught.value.status, caught.value.code


def undone(video: VideoSession, before: Any, kind: str) -> None:
    after = state(video)
    assert video.undo()["step"]["kind"] == kind
    assert state(video) == before
    video.redo()
    assert state(video) == after


def test_a_locked_object_is_not_changed_and_still_listed(video: VideoSession) -> None:
    before = state(video)
    assert video.edit(1, locked=True)["locked"] is True
    calls: list[Callable[[], Any]] = [
        lambda: video.refine(1, points=WALL), lambda: video.remove_object(1), lambda: video.clear_prompts(object_id=1),
        lambda: video.merge([2, 1]), lambda: video.mark_absent(1, 5), lambda: list(video.propagate(object_ids=[1, 2]))]
    assert {refused(call) for call in calls} == {(409, "object_locked")}
    assert state(video)[2] == before[2]
    video.refine(2, points=[[500, 300]], labels=[0], frame_idx=2)
    frames = list(video.propagate())
    assert [frame.index for frame in frames] == list(range(2, FRAMES)), "from the first prompt of what is tracked"
    stored = {index: mask for (index, number), (mask, _) in before[2].items() if number == 1}
    assert [frame.masks[1].rle for frame in frames] == [stored[frame.index] for frame in frames]
    assert video.edit(1, name="round", locked=None)["name"] == "round"
    assert video.clear_prompts() == 1
    assert refused(lambda: list(video.propagate())) == (409, "object_locked")
    video.start_over()
    assert [item["object_id"] for item in video.state()["objects"]] == [1]
    video.edit(1, locked=False)
    video.refine(1, points=WALL)


def test_an_object_that_is_tracked_cannot_be_locked(client: SamClient, clip: Path) -> None:
    with client.open_video(clip) as video:
        video.add_object(points=BALL)
        client.call("POST", "/propagate", json={"session_id": video.session_id, "background": True})
        for call in (lambda: video.edit(1, locked=True), lambda: video.mark_absent(1, 5), lambda: video.start_over()):
            assert refused(call) == (409, "propagation_running")


def test_objects_move_in_the_list(video: VideoSession) -> None:
    video.add_object(points=BALL, name="third")
    before = state(video)
    video.edit(3, position=0, name="first")
    assert [item["object_id"] for item in video.state()["objects"]] == [3, 1, 2]
    undone(video, before, "edit")
    video.edit(3, position=99)
    assert [item["object_id"] for item in video.state()["objects"]] == [1, 2, 3]
    assert refused(lambda: video.edit(3, position=-1))[0] == 422
    assert [frame.masks.keys() for frame in video.propagate(end_frame=0)] == [{1, 2, 3}]


def test_merged_objects_are_united_on_every_frame_and_track_on_as_one(video: VideoSession) -> None:
    before = state(video)
    ones = {number: {index: video.masks(index).masks[number].mask for index in range(FRAMES)} for number in (1, 2)}
    assert video.merge([2, 1]) == list(range(FRAMES))
    (item,) = video.state()["objects"]
    assert (item["object_id"], item["name"], item["prompted_frames"]) == (2, "object 2", [0, 2])
    for index in range(FRAMES):
        assert np.array_equal(video.masks(index).masks[2].mask, ones[1][index] | ones[2][index])
    undone(video, before, "merge")
    frames = list(video.propagate())
    assert np.array_equal(frames[2].masks[2].mask, ones[1][2] | ones[2][2])
    assert frames[3].masks[2].area > max(1.5 * ones[1][3].sum(), 0.6 * (ones[1][3] | ones[2][3]).sum())
    assert refused(lambda: video.merge([2, 2])) == (422, "invalid_input")
    assert refused(lambda: video.merge([2, 9])) == (404, "not_found")


def test_an_object_that_left_stays_away_until_it_is_prompted_again(video: VideoSession) -> None:
    before = state(video)
    assert video.mark_absent(1, 3) == list(range(3, FRAMES))
    gone = [0] * (FRAMES - 3)
    assert [areas(video, 1)[index] for index in range(3, FRAMES)] == gone
    undone(video, before, "absent")
    frames = list(video.propagate(direction="both"))
    assert [frame.masks[1].area > 0 for frame in sorted(frames, key=lambda frame: frame.index)] == [True] * 3 + [False] * 5
    assert all(frame.masks[2].area > 0 for frame in frames)
    video.refine(1, points=[[200, 190]], frame_idx=6)
    assert video.state()["objects"][0]["absent_from"] == [3]
    after = [frame.masks[1].area > 0 for frame in video.propagate()]
    assert after == [True] * 3 + [False] * 3 + [True] * 2
    video.refine(1, points=[[200, 190]], frame_idx=3)
    assert video.state()["objects"][0]["absent_from"] == []
    assert refused(lambda: video.mark_absent(1, 3)) == (409, "prompted_here")
    assert refused(lambda: video.mark_absent(1, FRAMES)) == (404, "not_found")
    video.clear_prompts(object_id=2)
    assert refused(lambda: video.mark_absent(2, 3)) == (409, "no_prompt")


def test_starting_over_is_one_step(video: VideoSession) -> None:
    before = state(video)
    assert video.start_over() == list(range(FRAMES))
    assert state(video) == ([], [], {})
    assert video.start_over() == []
    undone(video, before, "start_over")
    assert video.add_object(points=BALL).object_id == 3


def test_what_was_written_down_is_done_by_the_next_process(tmp_path: Path, clip: Path) -> None:
    states = []
    with local_service(settings(sam2_image_size=128), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=FRAMES)
        video.add_object(points=BALL)
        video.add_object(points=WALL)
        list(video.propagate())
        states.append(state(video))
        video.mark_absent(1, 5)
        states.append(state(video))
        video.merge([1, 2])
        states.append(state(video))
        video.undo()
        video.undo()
    with closing(sqlite3.connect(tmp_path / "sessions.sqlite")) as database, database:  # as a crash before it
        database.execute("UPDATE prompts SET settled = 0, undone = 0 WHERE undone = 1")
        database.execute("DELETE FROM replaced_masks WHERE step IN (SELECT step FROM steps WHERE undone)")
        database.execute("DELETE FROM steps WHERE undone")
    with local_service(settings(sam2_image_size=128), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video.client = client
        video.edit(1, name="object 1")  # applies what is still to be applied
        assert [step["kind"] for step in video.state()["history"]["undo"][:3]] == ["edit", "merge", "absent"]
        assert state(video) == states[2]
        video.undo()
        for expected in (states[1], states[0]):
            video.undo()
            assert state(video) == expected


def test_the_colours_are_64_that_differ(client: SamClient, video: VideoSession) -> None:
    colors = client.call("GET", "/colors")["colors"]
    assert len(set(colors)) == 64
    assert [item["color"] for item in video.state()["objects"]] == colors[:2]
    rgb = np.array([[[int(color[at:at + 2], 16) for at in (1, 3, 5)] for color in colors]], np.float32) / 255
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(lab, 2)) > 20
