"""Propagation over HTTP: order, ranges, directions, forms of the answer, cancelling, clicks in between."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sam_service.client import FrameMasks, SamClient, ServiceProblem, VideoSession
from sam_service.demo_clip import CLICK, RADIUS, ball_centre

from tests.support import iou


def truth(index: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    x0, y0 = ball_centre(index)
    y, x = np.mgrid[0:360, 0:640]
    return np.asarray(np.hypot(x - x0, y - y0) <= RADIUS)


def start(video: VideoSession, frame_idx: int = 0) -> None:
    x, y = ball_centre(frame_idx)
    video.add_object(box=[x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS], frame_idx=frame_idx)


def propagate(video: VideoSession, **body: Any) -> Any:
    return video.client.call("POST", "/propagate", json={"session_id": video.session_id, "mask_format": "none", **body})


def test_the_ball_is_followed(video: VideoSession) -> None:
    start(video)
    frames = list(video.propagate())
    assert [frame.index for frame in frames] == list(range(24))
    overlaps = [iou(frame.masks[1].mask, truth(frame.index)) for frame in frames]
    assert np.mean(overlaps) > 0.5


def test_json_answers_the_contract_with_masks_stored(video: VideoSession) -> None:
    start(video)
    answer = propagate(video, mask_format="png")
    assert set(answer) >= {"session_id", "num_frames", "frames", "elapsed_s", "frames_per_second"}
    assert answer["num_frames"] == len(answer["frames"]) == 24
    assert answer["frames"][12]["timestamp_s"] == pytest.approx(0.5, abs=0.01)
    assert answer["frames"][3]["objects"][0]["object_id"] == 1
    assert isinstance(answer["frames"][3]["objects"][0]["mask"], str)
    assert video.state()["frames_with_masks"] == list(range(24))


def test_ndjson_events(video: VideoSession) -> None:
    start(video)
    body = {"session_id": video.session_id, "mask_format": "none", "end_frame": 4}
    with video.client.http.stream("POST", "/propagate", json=body, headers={"Accept": "application/x-ndjson"}) as response:
        assert response.headers["content-type"].startswith("application/x-ndjson")
        events = [json.loads(line) for line in response.iter_lines()]
    assert [event["event"] for event in events] == ["start", *["frame"] * 5, "end"]
    assert events[0]["total"] == 5
    assert [event["done"] for event in events[1:-1]] == [1, 2, 3, 4, 5]
    assert events[1]["frames_per_second"] > 0


@pytest.mark.parametrize(("options", "expected"), [
    ({}, [*range(8, 24)]),
    ({"direction": "backward"}, [*range(8, -1, -1)]),
    ({"direction": "both"}, [*range(8, 24), *range(7, -1, -1)]),
    ({"direction": "both", "end_frame": 10}, [8, 9, 10, *range(7, -1, -1)]),
    ({"direction": "backward", "end_frame": 5}, [8, 7, 6, 5]),
    ({"start_frame": 10, "end_frame": 12}, [10, 11, 12]),
    ({"start_frame": 0, "end_frame": 9}, [*range(10)]),
])
def test_ranges_and_directions(video: VideoSession, options: dict[str, Any], expected: list[int]) -> None:
    start(video, frame_idx=8)
    assert [frame["frame_idx"] for frame in propagate(video, **options)["frames"]] == expected


def test_backward_follows_too(video: VideoSession) -> None:
    start(video, frame_idx=12)
    overlaps = [iou(frame.masks[1].mask, truth(frame.index)) for frame in video.propagate(direction="backward")]
    assert np.mean(overlaps) > 0.5


def test_every_object_is_on_every_frame(video: VideoSession) -> None:
    start(video)
    video.add_object(points=[[400, 100]], frame_idx=5)
    frames = propagate(video)["frames"]
    assert all([mask["object_id"] for mask in frame["objects"]] == [1, 2] for frame in frames)
    only = propagate(video, object_ids=[2])["frames"]
    assert all([mask["object_id"] for mask in frame["objects"]] == [2] for frame in only)


def test_an_object_without_a_prompt_is_listed_with_an_empty_mask(video: VideoSession) -> None:
    start(video)
    video.add_object(points=[[400, 100]])
    video.clear_prompts(object_id=2)
    frames = propagate(video, end_frame=2)["frames"]
    assert all([mask["object_id"] for mask in frame["objects"]] == [1, 2] for frame in frames)
    assert all((frame["objects"][1]["area"], frame["objects"][1]["bbox"]) == (0, None) for frame in frames)


def test_objects_do_not_influence_each_other(video: VideoSession) -> None:
    start(video)
    alone = list(video.propagate())
    video.add_object(points=[[400, 100]], frame_idx=3)
    together = list(video.propagate())
    assert all(iou(a.masks[1].mask, b.masks[1].mask) > 0.99 for a, b in zip(alone, together, strict=True))


def test_a_correction_on_a_tracked_frame_holds(video: VideoSession) -> None:
    start(video)
    list(video.propagate())
    x, y = ball_centre(10)
    corrected = video.refine(1, frame_idx=10, points=[[x, y], [x + 100, y]], labels=[1, 0])
    again = {frame.index: frame for frame in video.propagate()}
    assert (again[10].masks[1].mask == corrected.mask).all()


def test_propagating_twice_gives_the_same_masks(video: VideoSession) -> None:
    start(video)
    first, second = list(video.propagate()), list(video.propagate())
    assert all((a.masks[1].mask == b.masks[1].mask).all() for a, b in zip(first, second, strict=True))


def test_leaving_a_stream_cancels_and_keeps_what_was_computed(client: SamClient, clip: Path) -> None:
    with client.open_video(clip) as video:
        start(video)
        frames = video.propagate()
        next(frames)
        next(frames)
        frames.close()
        wait_idle(video)
        stored = video.state()["frames_with_masks"]
        assert 2 <= len(stored) < 60
        assert len(list(video.propagate(start_frame=stored[-1]))) == 72 - stored[-1]


def test_leaving_a_json_answer_cancels(client: SamClient, clip: Path, service: str) -> None:
    with client.open_video(clip) as video:
        start(video)
        with SamClient(service, timeout_s=0.5) as impatient, pytest.raises(Exception, match="timed out"):
            impatient.call("POST", "/propagate", json={"session_id": video.session_id})
        wait_idle(video)
        assert 0 < len(video.state()["frames_with_masks"]) < 72


def test_clicks_go_between_the_frames_of_a_running_propagation(client: SamClient, clip: Path) -> None:
    with client.open_video(clip) as video, client.open_video(clip, max_frames=3) as other:
        start(video)
        arrived: list[FrameMasks] = []
        reader = threading.Thread(target=lambda: arrived.extend(video.propagate()))
        reader.start()
        while not video.state()["frames_with_masks"][1:]:
            time.sleep(0.01)
        assert other.add_object(points=[list(CLICK)]).area > 0
        assert video.add_object(points=[[400, 100]], frame_idx=1).object_id == 2
        seen = len(arrived)
        reader.join()
        assert seen < len(arrived) == 72
        assert [frame.index for frame in arrived] == list(range(72))


def test_a_second_propagation_of_a_session_is_refused(client: SamClient, clip: Path) -> None:
    with client.open_video(clip) as video:
        start(video)
        frames = video.propagate()
        next(frames)
        with pytest.raises(ServiceProblem) as refused:
            propagate(video)
        assert (refused.value.status, refused.value.code) == (409, "propagation_running")
        frames.close()


def test_two_sessions_in_turn_give_the_masks_of_each_alone(client: SamClient, clip: Path) -> None:
    with client.open_video(clip, max_frames=16) as one, client.open_video(clip, max_frames=16, start_frame=20) as two:
        start(one)
        two.add_object(points=[list(ball_centre(20))])
        alone = [list(one.propagate()), list(two.propagate())]
        together: list[list[FrameMasks]] = [[], []]
        readers = [threading.Thread(target=lambda v=video, t=target: t.extend(v.propagate()))
                   for video, target in zip((one, two), together, strict=True)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        for before, after in zip(alone, together, strict=True):
            assert all((a.masks[1].mask == b.masks[1].mask).all() for a, b in zip(before, after, strict=True))


def test_a_background_job_is_watched_and_cancelled(client: SamClient, clip: Path) -> None:
    with client.open_video(clip) as video:
        start(video)
        accepted = client.http.post("/propagate", json={"session_id": video.session_id, "background": True})
        assert accepted.status_code == 202
        location = accepted.headers["location"]
        assert client.call("GET", location)["state"] == "running"
        running = video.state()["running"]
        assert running is not None
        assert running["job_id"] in location
        assert client.call("DELETE", location)["state"] == "cancelled"
        assert client.call("GET", location)["done"] == len(video.state()["frames_with_masks"])


def test_a_deleted_session_ends_its_propagation(client: SamClient, clip: Path) -> None:
    video = client.open_video(clip)
    start(video)
    frames = video.propagate()
    next(frames)
    video.delete()
    with pytest.raises(ServiceProblem) as ended:
        list(frames)
    assert ended.value.code in ("cancelled", "error")
    assert client.http.get(f"/sessions/{video.session_id}").status_code == 404


def wait_idle(video: VideoSession) -> None:
    """Wait until nothing runs on the session."""
    deadline = time.monotonic() + 20
    while video.state()["running"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
