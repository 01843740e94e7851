"""What an export takes and refuses, and what happens around one: events, leaving, deleting, a propagation meanwhile."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from sam_service.client import SamClient, VideoSession
from sam_service.export.archive import folder_names, safe_name
from sam_service.export.formats import FORMATS, FormatName
from sam_service.local import local_service
from sam_service.sessions import exporting
from websockets.sync.client import ClientConnection, connect

from tests.export.support import export, parsed, refused, stored, unzipped
from tests.support import settings


def test_the_service_lists_the_formats_once(client: SamClient) -> None:
    listed = client.call("GET", "/export-formats")["formats"]
    assert [item["format"] for item in listed] == list(FORMATS) == list(get_args(FormatName))
    assert {item["format"]: item["options"] for item in listed if item["options"]} == {
        "davis": ["images"], "coco": ["segmentation"], "yolo": ["images"], "labelme": ["images"], "cutout": ["feather"],
        "cutout-png": ["feather"], "webm": ["look", "opacity"], "mp4": ["look", "opacity"]}
    assert all(item["title"] and item["description"] and item["media_type"] for item in listed)


@pytest.mark.parametrize(("query", "status", "field", "said"), [
    ({"format": "gif"}, 422, "format", "'cutout-png'"),
    ({}, 422, "format", ""),
    ({"format": "png", "size": "huge"}, 422, "size", "'original'"),
    ({"format": "png", "start_frame": -1}, 422, "start_frame", "greater"),
    ({"format": "png", "start_frame": 5, "end_frame": 4}, 422, "end_frame", "start_frame 5"),
    ({"format": "png", "end_frame": 12}, 404, "end_frame", "12 frames"),
    ({"format": "png", "object_ids": "1,9"}, 404, "object_ids", "1, 2, 3"),
    ({"format": "png", "object_ids": "1,,2"}, 422, "object_ids", "1,2"),
    ({"format": "png", "object_ids": "ball"}, 422, "object_ids", "1,2"),
    ({"format": "png", "object_ids": "99999999999"}, 422, "object_ids", "at most"),
    ({"format": "png", "images": True}, 422, "images", "davis, yolo, labelme"),
    ({"format": "yolo", "segmentation": "polygon"}, 422, "segmentation", "coco only"),
    ({"format": "coco", "segmentation": "box"}, 422, "segmentation", "'polygon'"),
    ({"format": "webm", "feather": 3}, 422, "feather", "cutout"),
    ({"format": "cutout-png", "feather": 101}, 422, "feather", "100"),
    ({"format": "cutout-png", "feather": "nan"}, 422, "feather", "finite"),
    ({"format": "png", "frames": "all"}, 422, "frames", ""),
])
def test_bad_requests_name_the_field(tracked: VideoSession, query: dict[str, Any], status: int, field: str, said: str) -> None:
    problem = refused(tracked, **query)
    assert problem.status == status
    assert said in problem.fields[field]


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_to_export(video: VideoSession, tracked: VideoSession, form: str) -> None:
    assert (refused(video, format=form).status, refused(video, format=form).code) == (409, "nothing_to_export")
    beyond = refused(tracked, format=form, start_frame=10)
    assert (beyond.status, beyond.code) == (409, "nothing_to_export")


def test_an_unknown_session(client: SamClient) -> None:
    assert client.http.get("/sessions/none/export", params={"format": "png"}).status_code == 404


@pytest.mark.parametrize(("form", "name"), [("png", "ball-png.zip"), ("coco", "ball-coco.json"), ("webm", "ball-overlay.webm")])
def test_the_file_has_a_name(tracked: VideoSession, form: str, name: str) -> None:
    assert f'filename="{name}"' in export(tracked, format=form, end_frame=0).headers["content-disposition"]


def test_a_file_name_in_any_script_survives(client: SamClient, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "été \"1\" 日本.mp4"
    path.write_bytes(clip.read_bytes())
    with client.open_video(path, max_frames=1) as video:
        video.add_object(points=[[150, 200]])
        header = export(video, format="davis").headers["content-disposition"]
        assert header.isascii()
        assert "filename*=UTF-8''%C3%A9t%C3%A9" in header
        assert header.count('"') == 2


def test_a_range_and_chosen_objects(tracked: VideoSession) -> None:
    files = unzipped(export(tracked, format="png", start_frame=3, end_frame=5, object_ids="2"))
    index = json.loads(files.pop("index.json"))
    assert [item["object_id"] for item in index["objects"]] == [2]
    assert [frame["frame_idx"] for frame in index["frames"]] == [3, 4, 5]
    assert len(files) == 3
    document = parsed(export(tracked, format="coco", start_frame=3, end_frame=5))
    assert document["videos"][0]["length"] == 3
    assert [image["frame_index"] for image in document["images"]] == [3, 4, 5]


@pytest.mark.parametrize(("name", "safe"), [
    ("../../etc/passwd", "_.._etc_passwd"), ("a/b\\c", "a_b_c"), ("", "object 7"), ("...", "object 7"), ("CON", "CON_"),
    ("x\x00\x1fy\u202e", "x  y"), ("日本", "日本"), ("x" * 300, "x" * 60), ("tail. ", "tail"), (" / ", "_"),
    ("*?<>|", "_____")])
def test_names_are_safe_in_an_archive(name: str, safe: str) -> None:
    assert safe_name(name, "object 7") == safe


def test_folders_of_equal_names_differ() -> None:
    assert folder_names({1: "cup", 2: "Cup", 3: "cup", 4: "cup (3)"}) == {
        1: "cup", 2: "Cup (2)", 3: "cup (3)", 4: "cup (3) (4)"}


def test_while_a_propagation_runs_what_is_stored_is_exported(client: SamClient, clip: Path) -> None:
    with client.open_video(clip) as video:
        video.add_object(points=[[150, 200]])
        client.call("POST", "/propagate", json={"session_id": video.session_id, "background": True, "mask_format": "none"})
        files = unzipped(export(video, format="png"))
        frames = [frame["frame_idx"] for frame in json.loads(files.pop("index.json"))["frames"]]
        assert set(files) == {f"masks/object 1/{frame:05d}.png" for frame in frames}
        assert frames == list(range(len(frames)))
        assert client.call("POST", f"/sessions/{video.session_id}/cancel")["cancelled"]


def watching(video: VideoSession) -> ClientConnection:
    address = str(video.client.http.base_url).replace("http", "ws").rstrip("/")
    return connect(f"{address}/sessions/{video.session_id}/events")


def states(socket: ClientConnection) -> list[dict[str, Any]]:
    """Messages on exports until one has ended."""
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1]["state"] == "running":
        message = json.loads(socket.recv(timeout=30))
        messages += [message] if message["event"] == "export" else []
    return messages


def test_progress_is_told(tracked: VideoSession) -> None:
    with watching(tracked) as socket:
        export(tracked, format="webm")
        told = states(socket)
    assert {message["format"] for message in told} == {"webm"}
    assert {message["total"] for message in told} == {12}
    assert (told[0]["done"], told[0]["state"], told[-1]["done"], told[-1]["state"]) == (0, "running", 12, "done")


def test_a_client_that_leaves_stops_the_work_and_no_file_is_left(clip: Path, tmp_path: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        with client.open_video(clip) as video:
            video.add_object(points=[[150, 200]])
            video.frame(71)
            with watching(video) as socket:
                with pytest.raises(httpx.ReadTimeout):  # a video is sent once it is whole, which takes longer than this
                    client.http.get(f"/sessions/{video.session_id}/export", params={"format": "cutout"}, timeout=0.3)
                last = states(socket)[-1]
            assert last["state"] in ("cancelled", "failed")
            assert last["done"] < 72
            wait_for_no(tmp_path, "export-*")
            assert len(unzipped(export(video, format="davis"))) == 73, "the service goes on"


def test_an_export_of_a_deleted_session_ends(clip: Path, tmp_path: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip)
        video.add_object(points=[[150, 200]])
        video.frame(71)
        with watching(video) as socket, client.http.stream(
                "GET", f"/sessions/{video.session_id}/export", params={"format": "cutout-png"}) as response:
            assert response.status_code == 200
            chunks = response.iter_raw()
            next(chunks)
            video.delete()
            with pytest.raises(httpx.RemoteProtocolError):
                list(chunks)
            assert states(socket)[-1]["state"] == "failed"
        assert not any((tmp_path / "sessions").iterdir())


def wait_for_no(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 30
    while list(folder.rglob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_killed_process_left_behind_goes_at_the_next_start(clip: Path, tmp_path: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=2)
        video.add_object(points=[[150, 200]])
    left = tmp_path / "sessions" / video.session_id / "export-abc.webm"
    left.write_bytes(b"half a video")
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        assert not left.exists()
        restored = VideoSession(client, video.info)
        assert parsed(export(restored, format="coco"))["annotations"]
        assert stored(restored, 0, 1).any()


def test_exports_that_are_starting_count_among_the_exports(tracked: VideoSession, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, snapshot = threading.Event(), exporting._snapshot

    def held(*arguments: Any) -> Any:
        goes_on.wait()
        return snapshot(*arguments)

    monkeypatch.setattr(exporting, "_snapshot", held)
    monkeypatch.setattr(exporting, "MAX_EXPORTS", 2)
    url = str(tracked.client.http.base_url).rstrip("/") + f"/sessions/{tracked.session_id}/export?format=coco"
    with ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(httpx.get, url, timeout=120) for _ in range(3)]
        early, _ = wait(answers, timeout=60, return_when=FIRST_COMPLETED)
        goes_on.set()
    assert [answer.result().json()["code"] for answer in early] == ["too_many_exports"]
    assert sorted(answer.result().status_code for answer in answers) == [200, 200, 503]
