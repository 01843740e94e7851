"""Undo and redo: to the bit, against sessions that never did the step, across restarts, within bounds."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sam_service.client import SamClient, ServiceProblem, VideoSession
from sam_service.demo_clip import CLICK
from sam_service.local import local_service
from sam_service.sessions import history

from tests.support import settings

BALL, WALL = [list(CLICK)], [[100, 100]]
FRAMES = 8


@pytest.fixture(scope="module")
def client() -> Iterator[SamClient]:
    """A client of a fast service."""
    with local_service(settings(sam2_image_size=128)) as url, SamClient(url) as connected:
        connected.wait_ready()
        yield connected


@pytest.fixture
def opened(client: SamClient, clip: Path) -> Callable[[], VideoSession]:
    """Opens sessions of a few frames, which the service deletes with its folder."""
    return lambda: client.open_video(clip, max_frames=FRAMES)


def undo(video: VideoSession) -> Any:
    return video.client.call("POST", "/undo", json={"session_id": video.session_id})


def redo(video: VideoSession) -> Any:
    return video.client.call("POST", "/redo", json={"session_id": video.session_id})


def track(video: VideoSession, **which: Any) -> Any:
    """Propagate; the masks and scores by frame and object."""
    body = {"session_id": video.session_id, "mask_format": "rle", **which}
    frames = video.client.call("POST", "/propagate", json=body)["frames"]
    return {(frame["frame_idx"], item["object_id"]): (item["mask"]["counts"], item["score"], item["object_score"])
            for frame in frames for item in frame["objects"]}


def masks(video: VideoSession) -> Any:
    """All stored masks with their scores, by frame and object."""
    found: dict[tuple[int, int], Any] = {}
    for frame in video.client.call("GET", f"/sessions/{video.session_id}")["frames_with_masks"]:
        answer = video.client.call("GET", f"/sessions/{video.session_id}/masks/{frame}?mask_format=rle")
        found |= {(frame, item["object_id"]): (item["mask"]["counts"], item["score"], item["object_score"])
                  for item in answer["objects"]}
    return found


def state(video: VideoSession) -> Any:
    """All of a session that undo gives back."""
    session = video.client.call("GET", f"/sessions/{video.session_id}")
    return session["objects"], session["prompts"], session["frames_with_masks"], masks(video)


def refused(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ServiceProblem) as caught:
        call()
    return caught.value.status, caught.value.code


def test_a_refinement_that_was_tracked_is_undone_as_if_it_had_never_been(opened: Callable[[], VideoSession]) -> None:
    never, did = opened(), opened()
    for video in (never, did):
        video.add_object(points=BALL)
        video.add_object(points=WALL)
        track(video)
    before = state(did)
    did.refine(1, points=[[240, 80]], labels=[0], frame_idx=5)
    after = state(did)
    track(did)
    tracked = state(did)
    assert tracked[3] != before[3]
    answer = undo(did)
    assert answer["step"] == {"kind": "refine", "object_ids": [1], "frame_idx": 5}
    assert {frame for frame, _ in tracked[3].items() - before[3].items()} <= {(at, 1) for at in answer["changed_frames"]}
    assert state(did) == before == state(never)
    redo(did)
    assert state(did) == tracked != after
    undo(did)
    for video in (never, did):
        video.refine(1, points=[[230, 90]], labels=[0], frame_idx=3)  # on what is remembered there
    assert state(did) == state(never)
    assert track(did, direction="both") == track(never, direction="both")


def test_a_removed_object_comes_back_at_its_place_with_its_tracks(opened: Callable[[], VideoSession]) -> None:
    never, did = opened(), opened()
    for video in (never, did):
        video.add_object(points=BALL, object_id=7, name="ball")
        video.add_object(points=WALL)
        video.refine(7, points=BALL, frame_idx=6)  # before an earlier frame: the order of prompts counts
        video.refine(7, points=[[150, 180]], frame_idx=2)
        track(video)
    before = state(did)
    did.remove_object(7)
    assert did.add_object(points=WALL).object_id == 9
    assert [step["kind"] for step in undo(did)["history"]["undo"]][0] == "remove"
    undo(did)
    assert state(did) == before
    assert did.add_object(points=BALL, frame_idx=1).object_id == never.add_object(points=BALL, frame_idx=1).object_id == 9
    assert track(did) == track(never)


def steps() -> list[Callable[[VideoSession], Any]]:
    """Steps of all kinds on prompts and objects."""
    def edit(video: VideoSession) -> None:
        video.client.call("PATCH", f"/sessions/{video.session_id}/objects/1", json={"name": "cup", "color": "#123456"})
    return [
        lambda video: video.add_object(points=BALL, name="ball"),
        lambda video: video.add_object(points=WALL, frame_idx=3),
        lambda video: video.refine(1, points=[[240, 80]], labels=[0], frame_idx=5),
        edit,
        lambda video: video.clear_prompts(object_id=1, frame_idx=5),
        lambda video: video.clear_prompts(),
        lambda video: video.refine(2, points=BALL, frame_idx=2),
        lambda video: video.remove_object(1),
    ]


def test_all_steps_are_undone_and_redone_one_by_one_also_after_a_restart(tmp_path: Path, clip: Path) -> None:
    states = []
    with local_service(settings(sam2_image_size=128), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=FRAMES)
        for step in steps():
            states.append(state(video))
            step(video)
        states.append(state(video))
        for expected in reversed(states[:-1]):
            undo(video)
            assert state(video) == expected
        assert refused(lambda: undo(video)) == (409, "nothing_to_undo")
        for expected in states[1:4]:
            redo(video)
            assert state(video) == expected
    with local_service(settings(sam2_image_size=128), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video.client = client
        assert state(video) == states[3]
        undo(video)
        assert state(video) == states[2]
        for expected in states[3:]:
            redo(video)
            assert state(video) == expected
        assert refused(lambda: redo(video)) == (409, "nothing_to_redo")
        for expected in reversed(states[4:-1]):
            undo(video)
            assert state(video) == expected
        fresh = client.open_video(clip, max_frames=FRAMES)
        for step in steps()[:4]:
            step(fresh)
        assert state(fresh) == state(video)
        assert track(fresh) == track(video)


def test_a_change_or_a_propagation_ends_what_can_be_redone_and_nothing_else_does(video: VideoSession) -> None:
    video.add_object(points=BALL)
    video.refine(1, points=[[240, 80]], labels=[0])
    undo(video)
    with pytest.raises(ServiceProblem):
        video.refine(1, points=[[9000, 0]])
    assert [len(steps) for steps in video.client.call("GET", f"/sessions/{video.session_id}")["history"].values()] == [1, 1]
    track(video, end_frame=1)
    assert refused(lambda: redo(video)) == (409, "nothing_to_redo")
    undo(video)
    assert masks(video) == {}
    video.add_object(points=WALL)
    assert refused(lambda: redo(video)) == (409, "nothing_to_redo")


def test_other_objects_keep_what_they_were_tracked_to(video: VideoSession) -> None:
    video.add_object(points=BALL)
    video.add_object(points=WALL)
    tracked = track(video, end_frame=5)
    undo(video)
    assert set(masks(video)) == {(frame, 1) for frame in range(6)}
    assert masks(video).items() <= tracked.items()
    redo(video)
    assert masks(video) == tracked


def test_there_is_no_undo_during_a_propagation_nor_without_a_session(client: SamClient, clip: Path) -> None:
    with client.open_video(clip) as video:
        video.add_object(points=BALL)
        client.call("POST", "/propagate", json={"session_id": video.session_id, "background": True})
        assert refused(lambda: undo(video)) == (409, "propagation_running")
        video.cancel()
        undo(video)
        assert state(video) == ([], [], [], {})
        assert refused(lambda: video.client.call("POST", "/undo", json={"session_id": "0" * 32})) == (404, "not_found")
        assert refused(lambda: video.client.call("POST", "/undo", json={"session_id": video.session_id, "steps": 2}))[0] == 422


def test_a_paused_propagation_is_not_resumed_after_an_undo(video: VideoSession) -> None:
    video.add_object(points=BALL)
    track(video, end_frame=2)
    video.refine(1, points=[[240, 80]], labels=[0])
    frames = video.propagate()
    next(frames)
    frames.close()
    while video.state()["running"] is not None:
        pass
    undo(video)
    assert set(masks(video)) == {(frame, 1) for frame in range(3)}
    assert set(track(video)) == {(frame, 1) for frame in range(24)}


def test_the_history_is_bounded_and_leaves_nothing_behind(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_STEPS", 2)
    with local_service(settings(sam2_image_size=128), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=FRAMES)
        video.add_object(points=BALL)
        for at in (2, 4, 6):
            track(video)
            video.refine(1, points=BALL, frame_idx=at)
        track(video)
        folder, present = tmp_path / "sessions" / video.session_id / "memory", track(video)
        assert len(video.client.call("GET", f"/sessions/{video.session_id}")["history"]["undo"]) == 2
        undo(video)
        undo(video)
        assert refused(lambda: undo(video)) == (409, "nothing_to_undo")
        redo(video)
        redo(video)
        assert masks(video) == present
        for _ in range(3):
            video.client.call("PATCH", f"/sessions/{video.session_id}/objects/1", json={"name": "cup"})
        assert len(list(folder.glob("*/*"))) == FRAMES, "a file for each frame of the object, and none for what is forgotten"
        with closing(sqlite3.connect(tmp_path / "sessions.sqlite")) as database:
            assert database.execute("SELECT COUNT(*) FROM replaced_masks").fetchone() == (0,)
        video.delete()
        with closing(sqlite3.connect(tmp_path / "sessions.sqlite")) as database:
            assert [database.execute(f"SELECT COUNT(*) FROM {table}").fetchone() for table in (
                "steps", "prompts", "masks")] == [(0,)] * 3
        assert not folder.exists()


def test_steps_are_forgotten_before_a_session_has_more_memory_than_it_may(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(memory_spill_mb=2), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=FRAMES)
        video.add_object(points=BALL)
        for at in (2, 4, 6, 3, 5, 1):
            track(video)
            before = state(video)
            video.refine(1, points=BALL, frame_idx=at)
        kept = [path for path in (tmp_path / "sessions" / video.session_id / "memory").glob("*/*") if path.is_file()]
        present = len({path.name.split("-")[2] for path in kept})
        assert present == FRAMES, "what is remembered now does not suffer"
        assert sum(path.stat().st_size for path in kept) <= 2 * (2 << 20)
        assert 1 <= len(video.client.call("GET", f"/sessions/{video.session_id}")["history"]["undo"]) < 7
        undo(video)
        assert state(video) == before, "the last step can be undone whatever it takes"


def test_a_data_folder_of_the_version_before_opens(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(sam2_image_size=128), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=FRAMES)
        video.add_object(points=BALL)
        tracked = track(video)
    with closing(sqlite3.connect(tmp_path / "sessions.sqlite")) as database, database:
        for table, column in (("sessions", "base_step"), ("prompts", "step"), ("prompts", "undone")):
            database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        database.execute("DROP TABLE steps")
        database.execute("DROP TABLE replaced_masks")
        database.execute("PRAGMA user_version = 3")
    for path in (tmp_path / "sessions" / video.session_id / "memory").glob("*/*"):
        path.rename(path.with_name("-".join(path.stem.split("-")[:3]) + path.suffix))
    with local_service(settings(sam2_image_size=128), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video.client = client
        assert masks(video) == tracked
        assert refused(lambda: undo(video)) == (409, "nothing_to_undo")
        before = state(video)
        video.refine(1, points=[[240, 80]], labels=[0], frame_idx=5)
        undo(video)
        assert state(video) == before
        assert track(video) == tracked
