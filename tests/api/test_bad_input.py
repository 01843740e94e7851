"""What bad input gets: a 4xx problem document that names the field, and a session that is as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sam_service.client import SamClient, VideoSession
from sam_service.demo_clip import CLICK
from sam_service.local import local_service
from sam_service.masks.png import encode_png, to_base64

from tests.support import settings

POINT = [list(CLICK)]


def check(response: httpx.Response, status: int, field: str | None = None, code: str | None = None) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert response.status_code == status, document
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code"} <= set(document)
    assert document["status"] == status
    if field is not None:
        assert field in [error["field"] for error in document["errors"]], document
    if code is not None:
        assert document["code"] == code
    return document


@pytest.mark.parametrize(("content", "status", "code"), [
    (b"", 415, "empty_file"),
    (b"this is a text, not a video\n" * 100, 415, "not_a_video"),
    (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", 415, "not_a_video"),
    (b"ffconcat version 1.0\nfile '/etc/passwd'\n", 415, "not_a_video"),
    (encode_png(np.ones((64, 64), bool)), 415, "not_a_video"),
    (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(4000), 415, "no_frames"),
])
def test_a_file_that_is_no_video(client: SamClient, content: bytes, status: int, code: str) -> None:
    before = len(client.call("GET", "/sessions")["sessions"])
    check(client.http.post("/initialize", files={"file": ("clip.mp4", content)}), status, code=code)
    assert len(client.call("GET", "/sessions")["sessions"]) == before


def test_an_upload_over_the_limit(client: SamClient) -> None:
    document = check(client.http.post("/initialize", files={"file": ("clip.mp4", bytes(6 << 20))}), 413, "file")
    assert "5 MiB" in document["detail"]


def test_an_upload_over_the_limit_that_does_not_say_so(client: SamClient) -> None:
    def body() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for _ in range(8):
            yield bytes(1 << 20)
        yield b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    check(client.http.post("/initialize", content=body(), headers=headers), 413, "file")


@pytest.mark.parametrize("path", ["../outside.mp4", "sub/../../outside.mp4", "/etc/passwd", "link.mp4", "linked/outside.mp4"])
def test_a_path_outside_the_video_folder(tmp_path: Path, clip: Path, path: str) -> None:
    inside = tmp_path / "videos"
    (inside / "sub").mkdir(parents=True)
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(clip.read_bytes())
    (inside / "link.mp4").symlink_to(outside)
    (inside / "linked").symlink_to(tmp_path)
    (inside / "good.mp4").symlink_to(inside / "sub" / "real.mp4")
    (inside / "sub" / "real.mp4").write_bytes(clip.read_bytes())
    with local_service(settings(sam2_video_dir=inside)) as url, SamClient(url) as client:
        client.wait_ready()
        check(client.http.post("/initialize", json={"video_path": path}), 422, "video_path", "path_outside")
        client.open_video_on_server("good.mp4", max_frames=1).delete()


@pytest.mark.parametrize(("body", "status", "field"), [
    ({"video_path": "missing.mp4"}, 404, "video_path"),
    ({"video_path": ""}, 422, "video_path"),
    ({"video_path": "a\0b"}, 422, "video_path"),
    ({"video_path": 7}, 422, "video_path"),
    ({}, 422, "video_path"),
    ({"video_path": "ball.mp4", "max_frames": 0}, 422, "max_frames"),
    ({"video_path": "ball.mp4", "start_frame": -1}, 422, "start_frame"),
    ({"video_path": "ball.mp4", "start_frame": 5000}, 422, "start_frame"),
    ({"video_path": "ball.mp4", "frame_stride": 0}, 422, "frame_stride"),
    ({"video_path": "ball.mp4", "image_size": 100}, 422, "image_size"),
    ({"video_path": "ball.mp4", "colour": "red"}, 422, "colour"),
    ([1, 2], 422, None),
])
def test_initialize_with_a_bad_body(client: SamClient, body: Any, status: int, field: str | None) -> None:
    check(client.http.post("/initialize", json=body), status, field)


@pytest.mark.parametrize(("form", "field"), [
    ({"max_frames": "many"}, "max_frames"), ({"colour": "red"}, "colour"), ({"image_size": "99"}, "image_size")])
def test_initialize_with_a_bad_form(client: SamClient, clip: Path, form: dict[str, str], field: str) -> None:
    check(client.http.post("/initialize", files={"file": ("a.mp4", clip.read_bytes())}, data=form), 422, field)


def test_initialize_without_a_file_or_a_known_body(client: SamClient) -> None:
    check(client.http.post("/initialize", files={"other": ("a.mp4", b"x")}), 422, "file")
    check(client.http.post("/initialize", content=b"x", headers={"Content-Type": "text/plain"}), 400, "content-type")
    check(client.http.post("/initialize", content=b"{", headers={"Content-Type": "application/json"}), 400, code="invalid_json")
    check(client.http.post("/initialize", content=b"[" * 50_000, headers={"Content-Type": "application/json"}), 400)


BAD_PROMPTS: list[tuple[dict[str, Any], str]] = [
    ({}, "points"),
    ({"points": []}, "points"),
    ({"points": [[641, 10]]}, "points"),
    ({"points": [[-1, 10]]}, "points"),
    ({"points": [[10, 361]]}, "points"),
    ({"points": [[10, 10, 10]]}, "points"),
    ({"points": [[1.5, 0.2]], "normalized": True}, "points"),
    ({"points": [["a", 1]]}, "points[0][0]"),
    ({"points": [[10, 10]] * 300}, "points"),
    ({"points": POINT, "labels": [1, 0]}, "labels"),
    ({"points": POINT, "labels": []}, "labels"),
    ({"points": POINT, "labels": [2]}, "labels"),
    ({"points": POINT, "labels": [0]}, "labels"),
    ({"labels": [1]}, "labels"),
    ({"box": [100, 100, 50, 150]}, "box"),
    ({"box": [100, 100, 150, 50]}, "box"),
    ({"box": [100, 100, 100, 100]}, "box"),
    ({"box": [100, 100, 900, 200]}, "box"),
    ({"box": [1, 2, 3]}, "box"),
    ({"mask": "no base64!"}, "mask"),
    ({"mask": to_base64(b"not a png")}, "mask"),
    ({"mask": to_base64(encode_png(np.ones((10, 10), bool)))}, "mask"),
    ({"mask": to_base64(encode_png(np.zeros((360, 640), bool)))}, "mask"),
    ({"mask": to_base64(encode_png(np.ones((360, 640), bool))), "points": POINT}, "points"),
    ({"points": POINT, "frame_idx": -1}, "frame_idx"),
    ({"points": POINT, "object_id": -1}, "object_id"),
    ({"points": POINT, "object_id": 2**40}, "object_id"),
    ({"points": POINT, "mask_format": "gif"}, "mask_format"),
    ({"points": POINT, "lables": [1]}, "lables"),
]


@pytest.mark.parametrize(("prompt", "field"), BAD_PROMPTS, ids=lambda value: str(value)[:40])
def test_a_bad_prompt_leaves_the_session_untouched(video: VideoSession, prompt: dict[str, Any], field: str) -> None:
    before = untouched(video)
    response = video.client.http.post("/add-object", json={"session_id": video.session_id, **prompt})
    check(response, 422, field)
    assert untouched(video) == before


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("shape", ['"points": [[%s, 10]]', '"box": [10, 10, %s, 20]'])
def test_numbers_that_are_not_finite(video: VideoSession, number: str, shape: str) -> None:
    before = untouched(video)
    body = f'{{"session_id": {json.dumps(video.session_id)}, {shape % number}}}'
    response = video.client.http.post("/add-object", content=body, headers={"Content-Type": "application/json"})
    document = check(response, 422)
    assert document["errors"][0]["field"].startswith(("points", "box"))
    assert untouched(video) == before


def test_unknown_session_object_and_frame(video: VideoSession) -> None:
    http = video.client.http
    for path in ("/sessions/nothing", "/sessions/nothing/frames/0", "/sessions/nothing/masks/0/1"):
        check(http.get(path), 404, "session_id")
    known = {"session_id": video.session_id}
    check(http.post("/add-object", json={"session_id": "nothing", "points": POINT}), 404, "session_id")
    check(http.post("/refine", json={**known, "object_id": 9, "points": POINT}), 404, "object_id")
    check(http.post("/remove-object", json={**known, "object_id": 9}), 404, "object_id")
    check(http.post("/clear-prompts", json={**known, "object_id": 9}), 404, "object_id")
    check(http.post("/add-object", json={**known, "frame_idx": 24, "points": POINT}), 404, "frame_idx")
    check(http.get(f"/sessions/{video.session_id}/frames/24"), 404, "frame_idx")
    check(http.get(f"/sessions/{video.session_id}/frames/-1"), 422, "frame_idx")
    check(http.get(f"/sessions/{video.session_id}/masks/0/1"), 404, "object_id")
    video.add_object(points=POINT)
    check(http.get(f"/sessions/{video.session_id}/masks/3/1"), 404, "frame_idx", "no_mask")
    check(http.get(f"/sessions/{video.session_id}/masks/{10**30}/1"), 422, "frame_idx")
    check(http.get(f"/sessions/{video.session_id}/masks/0/{10**30}"), 422, "object_id")
    check(http.get("/jobs/nothing"), 404, "job_id")
    check(http.get("/nothing"), 404)
    check(http.put("/initialize"), 405)


def test_a_body_that_is_too_large_or_full_of_mistakes(video: VideoSession) -> None:
    http = video.client.http
    for kind in ("application/json", "multipart/form-data; boundary=x", "Multipart/Form-Data"):
        response = http.post("/add-object", content=b" " * (25 << 20), headers={"Content-Type": kind})
        check(response, 413, code="body_too_large")
    response = http.post("/add-object", json={"session_id": video.session_id, "points": ["a"] * 100_000})
    assert len(check(response, 422)["errors"]) <= 20
    response = http.post("/add-object", json={"session_id": video.session_id, "points": POINT, "x" * 10_000: 1})
    assert len(check(response, 422)["detail"]) < 2000


def test_an_object_id_twice(video: VideoSession) -> None:
    video.add_object(points=POINT, object_id=3)
    before = untouched(video)
    response = video.client.http.post("/add-object", json={"session_id": video.session_id, "object_id": 3, "points": POINT})
    check(response, 409, "object_id", "object_exists")
    assert untouched(video) == before


def test_propagating_without_a_prompt(video: VideoSession) -> None:
    check(video.client.http.post("/propagate", json={"session_id": video.session_id}), 409, code="nothing_to_propagate")


@pytest.mark.parametrize(("body", "status", "field"), [
    ({"object_ids": [9]}, 404, "object_ids"),
    ({"object_ids": []}, 422, "object_ids"),
    ({"start_frame": 24}, 404, "start_frame"),
    ({"end_frame": 24}, 404, "end_frame"),
    ({"start_frame": 5, "end_frame": 4}, 422, "end_frame"),
    ({"direction": "backward", "end_frame": 4}, 422, "end_frame"),
    ({"direction": "sideways"}, 422, "direction"),
    ({"mask_format": "gif"}, 422, "mask_format"),
])
def test_a_bad_propagation(video: VideoSession, body: dict[str, Any], status: int, field: str) -> None:
    video.add_object(points=POINT)
    before = untouched(video)
    check(video.client.http.post("/propagate", json={"session_id": video.session_id, **body}), status, field)
    assert untouched(video) == before


def test_an_answer_that_cannot_be_given(video: VideoSession) -> None:
    video.add_object(points=POINT)
    response = video.client.http.post("/propagate", json={"session_id": video.session_id}, headers={"Accept": "text/html"})
    check(response, 400, "accept", "not_acceptable")


def untouched(video: VideoSession) -> Any:
    """What of a session must not change."""
    state = video.state()
    return {name: state[name] for name in ("objects", "prompts", "frames_with_masks", "running", "width", "height")}


@pytest.mark.parametrize(("method", "path", "query", "field", "says"), [
    ("POST", "/initialize", "max_frames=2", "max_frames", "it has none; options belong into the body"),
    ("POST", "/propagate", "mask_format=rle", "mask_format", "options belong into the body"),
    ("GET", "/sessions/{id}", "frame_idx=1", "frame_idx", "it has none"),
    ("GET", "/sessions/{id}/frames/0", "size=160", "size", "its fields are width"),
    ("GET", "/sessions/{id}/frames/0", "width=160&width=320", "width", "twice"),
    ("GET", "/sessions/{id}/masks/0", "mask_format=none&object_ids=1", "object_ids", "its fields are mask_format"),
    ("GET", "/sessions/{id}/export", "format=coco&frames=1", "frames", "format, images, look"),
    ("GET", "/sessions/{id}/export", "format=coco&start_frame=1&start_frame=2", "start_frame", "twice")])
def test_an_option_in_the_query_is_not_passed_over(video: VideoSession, method: str, path: str, query: str, field: str,
                                                   says: str) -> None:
    answer = video.client.http.request(method, f"{path.replace('{id}', video.session_id)}?{query}")
    assert says in check(answer, 422, field, "invalid_input")["detail"]


def test_a_query_of_a_calls_own_fields_is_taken(video: VideoSession) -> None:
    assert video.client.http.get(f"/sessions/{video.session_id}/frames/0?width=160&_=1764106919").status_code == 200
    assert video.client.http.get(f"/sessions/{video.session_id}/masks/0?mask_format=none").status_code == 200
