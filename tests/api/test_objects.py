"""Names, colours, thumbnails, and what is stored, as pages and exports look at it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sam_service.client import SamClient, ServiceProblem, VideoSession
from sam_service.demo_clip import CLICK
from sam_service.local import local_service

from tests.support import jpeg_size, settings


def label(video: VideoSession, object_id: int, **body: Any) -> Any:
    return video.client.call("PATCH", f"/sessions/{video.session_id}/objects/{object_id}", json=body)


def test_objects_have_names_and_colours(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    video.add_object(points=[[100, 100]], name="  the   wall ")
    first, second = video.state()["objects"]
    assert (first["name"], first["color"]) == ("object 1", "#56b4e9")
    assert (second["name"], second["color"]) == ("the wall", "#e69f00")
    assert label(video, 1, color="#ABCDEF")["name"] == "object 1"
    assert label(video, 1, name="Bäll 球") == {"object_id": 1, "name": "Bäll 球", "color": "#abcdef", "prompted_frames": [0],
                                               "locked": False, "absent_from": []}
    video.remove_object(1)
    video.add_object(points=[list(CLICK)], object_id=1)
    assert [item["name"] for item in video.state()["objects"]] == ["the wall", "object 1"]


@pytest.mark.parametrize(("body", "field"), [
    ({"name": ""}, "name"), ({"name": " \n"}, "name"), ({"name": "x" * 81}, "name"), ({"name": "a\x00b"}, "name"),
    ({"color": "red"}, "color"), ({"color": "#12345g"}, "color"), ({"colour": "#123456"}, "colour"),
])
def test_a_bad_label_is_refused_and_changes_nothing(video: VideoSession, body: dict[str, Any], field: str) -> None:
    video.add_object(points=[list(CLICK)])
    before = video.state()["objects"]
    with pytest.raises(ServiceProblem) as refused:
        label(video, 1, **body)
    assert refused.value.status == 422
    assert video.state()["objects"] == before
    if "name" in body:
        with pytest.raises(ServiceProblem):
            video.add_object(points=[list(CLICK)], **body)
        assert video.state()["objects"] == before


def test_labelling_an_unknown_object_is_refused(video: VideoSession) -> None:
    with pytest.raises(ServiceProblem) as refused:
        label(video, 7, name="x")
    assert refused.value.status == 404


def test_labels_outlive_the_process_and_an_older_store_is_read(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=2)
        video.add_object(points=[list(CLICK)], name="ball")
        label(video, 1, color="#010203")
        label(video, 1, name="round ball")
    with sqlite3.connect(tmp_path / "sessions.sqlite") as database:
        database.execute("PRAGMA user_version = 1")
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        (state,) = client.call("GET", "/sessions")["sessions"]
        (item,) = state["objects"]
        assert (item["object_id"], item["name"], item["color"], item["prompted_frames"]) == (1, "round ball", "#010203", [0])
        client.wait_ready()
        video.client = client
        assert len(list(video.propagate())) == 2


def test_thumbnails(video: VideoSession) -> None:
    http, path = video.client.http, f"/sessions/{video.session_id}/frames/3"
    assert jpeg_size(http.get(path, params={"width": 160}).content) == (160, 90)
    assert jpeg_size(http.get(path, params={"width": 77}).content) == (77, 43)
    assert http.get(path, params={"width": 640}).content == http.get(path).content
    assert http.get(path, params={"width": 4000}).content == http.get(path).content
    assert http.get(path, params={"width": 1}).status_code == 422


def test_all_masks_of_a_frame_and_tracks(video: VideoSession) -> None:
    video.add_object(points=[list(CLICK)])
    video.add_object(points=[[100, 100]], frame_idx=2)
    frames = list(video.propagate(end_frame=5))
    path = f"/sessions/{video.session_id}"
    masks = video.client.call("GET", f"{path}/masks/3?mask_format=rle")
    assert (masks["frame_idx"], [item["object_id"] for item in masks["objects"]]) == (3, [1, 2])
    assert masks["objects"][0]["area"] == frames[3].masks[1].area
    assert video.client.call("GET", f"{path}/masks/9")["objects"] == []
    assert video.client.http.get(f"{path}/masks/24").status_code == 404
    assert video.client.http.get(f"{path}/masks/3?mask_format=gif").status_code == 422
    tracks = video.client.call("GET", f"{path}/tracks")["objects"]
    assert [track["object_id"] for track in tracks] == [1, 2]
    assert tracks[0]["frames"] == list(range(6))
    assert tracks[0]["area"] == [frame.masks[1].area for frame in frames]
    assert all(len(tracks[0][name]) == 6 for name in ("score", "object_score"))
