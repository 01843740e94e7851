"""Live sessions over REST: frames are pushed one by one, and answered with the masks that a file would have."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from sam_service.client import LiveFrame, LiveSession, SamClient, ServiceProblem
from sam_service.demo_clip import CLICK
from sam_service.local import local_service
from websockets.sync.client import connect

from benchmarks.live import measure
from tests import colour_family
from tests.support import jpeg_size, settings

FRAMES, LATE, CORRECTED = 18, 5, 9
Masks = dict[int, dict[int, Any]]


@pytest.fixture(scope="module")
def colour_url() -> Iterator[str]:
    """A service whose model takes no time: an object is what has the colour of its click."""
    with local_service(settings(sam2_model_size=colour_family.register(), frame_jpeg_quality=95)) as url:
        yield url
    colour_family.forget()


@pytest.fixture
def colours(colour_url: str) -> Iterator[SamClient]:
    with SamClient(colour_url) as client:
        client.wait_ready()
        yield client


@pytest.fixture(scope="module")
def recorded(client: SamClient, clip: Path) -> tuple[list[bytes], Masks]:
    """The frames of a clip and its masks: one object from the start, one that comes later, and a correction."""
    masks: Masks = {}
    with client.open_video(clip, max_frames=FRAMES, image_size=128) as video:
        video.add_object(points=[list(CLICK)])
        for start, end in ((0, LATE), (LATE + 1, CORRECTED), (CORRECTED + 1, FRAMES - 1)):
            for frame in video.propagate(start_frame=start, end_frame=end):
                masks[frame.index] = {number: (mask.rle, mask.score, mask.object_score) for number, mask in frame.masks.items()}
            if end == LATE:
                video.add_object(box=[400, 100, 560, 300], frame_idx=LATE)
            if end == CORRECTED:
                video.refine(1, points=[[20, 20]], labels=[0], frame_idx=CORRECTED)
        return [video.frame(index) for index in range(FRAMES)], masks


def push_all(live: LiveSession, pictures: list[bytes], start: int = 0) -> Masks:
    """Push pictures with the clicks of `recorded`; the masks that are answered."""
    masks: Masks = {}
    for index in range(start, len(pictures)):
        frame = live.push(pictures[index], frame_idx=index)
        assert frame.index == index
        masks[index] = {number: (mask.rle, mask.score, mask.object_score) for number, mask in frame.masks.items()}
        if index == 0:
            live.add_object(points=[list(CLICK)], frame_idx="latest")
        if index == LATE:
            live.add_object(box=[400, 100, 560, 300], frame_idx="latest")
        if index == CORRECTED:
            live.refine(1, points=[[20, 20]], labels=[0], frame_idx=CORRECTED)
    return masks


def picture(x: int, size: tuple[int, int] = (64, 48), form: str = ".png") -> bytes:
    """A red disc on grey, its centre at x."""
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    cv2.circle(image, (x, size[1] // 2), 8, (40, 40, 220), -1)
    return cv2.imencode(form, image)[1].tobytes()


def red(live: LiveSession, frame_idx: Any = "latest", x: int = 20) -> int:
    return live.add_object(points=[[x, 24]], frame_idx=frame_idx).object_id


def test_a_file_that_is_pushed_has_the_masks_of_propagate_to_the_bit(client: SamClient,
                                                                    recorded: tuple[list[bytes], Masks]) -> None:
    pictures, masks = recorded
    with client.live(640, 360, image_size=128, policy="all") as live:
        assert live.info["status"] == "live"
        pushed = push_all(live, pictures)
        assert live.frame(FRAMES - 1) == pictures[-1]
    assert pushed[0] == {}
    for index in range(1, FRAMES):
        assert pushed[index] == masks[index], index
    assert any(masks[index][1] != masks[index - 1][1] for index in range(2, FRAMES))


def test_going_back_and_pushing_again_gives_the_same_masks(client: SamClient, recorded: tuple[list[bytes], Masks]) -> None:
    pictures, masks = recorded
    with client.live(640, 360, image_size=128, keep_frames=8) as live:
        push_all(live, pictures[:14])
        assert live.rewind(CORRECTED - 2) == CORRECTED - 1
        state = live.state()
        assert [item["prompted_frames"] for item in state["objects"]] == [[0], [LATE]]
        assert max(state["frames_with_masks"]) == CORRECTED - 2
        again = push_all(live, pictures, start=CORRECTED - 1)
    assert again == {index: masks[index] for index in range(CORRECTED - 1, FRAMES)}


def test_a_prompt_is_undone_up_to_the_next_push(client: SamClient, recorded: tuple[list[bytes], Masks]) -> None:
    pictures, masks = recorded
    with client.live(640, 360, image_size=128, keep_frames=8) as live:
        push_all(live, pictures[:3])
        live.refine(1, points=[[20, 20]], labels=[0], frame_idx="latest")
        assert live.undo()["step"]["kind"] == "refine"
        assert push_all(live, pictures[:4], start=3) == {3: masks[3]}
        with pytest.raises(ServiceProblem, match="nothing to undo"):
            live.undo()
        live.refine(1, points=[[20, 20]], labels=[0], frame_idx="latest")
        assert live.rewind(2) == 3
        with pytest.raises(ServiceProblem, match="nothing to undo"):
            live.undo()
        assert push_all(live, pictures[:4], start=3) == {3: masks[3]}


def test_a_service_that_starts_anew_goes_on_to_the_same_masks(tmp_path: Path, recorded: tuple[list[bytes], Masks]) -> None:
    pictures, masks = recorded
    options = settings(sam2_image_size=128)
    with local_service(options, data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        live = client.live(640, 360, keep_frames=4)
        first = push_all(live, pictures[:12])
        client.http.put(f"/sessions/{live.session_id}/frames", content=b"no picture", headers={"Content-Type": "image/png"})
    with local_service(options, data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        found = client.session(live.session_id)
        assert isinstance(found, LiveSession)
        assert found.info["live"] == {"policy": "latest", "keep_frames": 4, "first_frame": 8, "dropped": 0}
        repeated = found.push(pictures[11], frame_idx=11)
        assert {number: (mask.rle, mask.score, mask.object_score) for number, mask in repeated.masks.items()} == first[11]
        assert push_all(found, pictures, start=12) == {index: masks[index] for index in range(12, FRAMES)}


@pytest.mark.parametrize("form", ["png", "webp"])
def test_pictures_that_are_pushed_are_those_of_a_clip_of_them(colours: SamClient, tmp_path: Path, form: str) -> None:
    pictures = [picture(20 + index, form=f".{form}") for index in range(4)]
    for index, content in enumerate(pictures):
        (tmp_path / f"{index}.{form}").write_bytes(content)
    with colours.initialize(tmp_path) as video, colours.live(64, 48) as live:
        for index, content in enumerate(pictures):
            live.push(content)
            assert live.frame(index) == video.frame(index)


def test_a_jpeg_in_several_scans_is_written_anew(colours: SamClient) -> None:
    image = Image.open(io.BytesIO(picture(20)))
    scans, baseline = io.BytesIO(), io.BytesIO()
    image.save(scans, "JPEG", quality=95, progressive=True)
    image.save(baseline, "JPEG", quality=95)
    with colours.live(64, 48) as live:
        live.push(scans.getvalue())
        live.push(baseline.getvalue())
        assert scans.getvalue().count(b"\xff\xda") > 1 and live.frame(0).count(b"\xff\xda") == 1
        assert live.frame(1) == baseline.getvalue()


def test_a_window_is_kept_and_what_has_left_it_is_gone(colour_url: str, colours: SamClient) -> None:
    with colours.live(64, 48, keep_frames=4, fps=10) as live:
        for index in range(10):
            frame = live.push(picture(20 + index))
            if index == 0:
                red(live)
        assert frame.masks[1].area > 100
        assert frame.timestamp_s == pytest.approx(0.9)
        assert live.state()["live"] == {"policy": "latest", "keep_frames": 4, "first_frame": 6, "dropped": 0}
        assert live.state()["frames_with_masks"] == [6, 7, 8, 9]
        assert live.tracks()[1].frames.tolist() == [6, 7, 8, 9]
        assert live.frame(6)
        for request in (lambda: live.frame(5), lambda: red(live, 5), lambda: live.rewind(5), lambda: live.masks(0)):
            with pytest.raises(ServiceProblem) as gone:
                request()
            assert (gone.value.status, gone.value.code, [*gone.value.fields]) == (410, "frame_gone", ["frame_idx"])
        with pytest.raises(ServiceProblem) as early:
            live.frame(10)
        assert early.value.status == 404
        assert red(live, 7, 27) == 2
        times = colours.http.get(f"/sessions/{live.session_id}/timestamps").json()
        assert times == {"timestamps_s": [0.6, 0.7, 0.8, 0.9], "first_frame": 6}


def test_objects_come_change_and_go_in_mid_stream(colours: SamClient) -> None:
    with colours.live(64, 48) as live:
        live.push(picture(20))
        red(live)
        assert set(live.push(picture(21)).masks) == {1}
        background = live.add_object(points=[[60, 4]], frame_idx="latest", name="wall").object_id
        assert set(live.push(picture(22)).masks) == {1, background}
        small = live.push(picture(23)).masks[1].area
        assert live.refine(1, points=[[60, 4]], replace=True, frame_idx="latest").area > small
        assert live.push(picture(24)).masks[1].area > small
        live.remove_object(1)
        assert set(live.push(picture(25)).masks) == {background}
        live.clear_prompts()
        assert live.push(picture(26)).masks[background].area == 0


def test_prompts_behind_the_window_are_few_and_the_first_stays(colours: SamClient) -> None:
    with colours.live(64, 48, keep_frames=2) as live:
        live.push(picture(20))
        red(live)
        for index in range(1, 12):
            live.push(picture(20 + index))
            live.refine(1, points=[[20 + index, 24]], frame_idx="latest")
        assert live.state()["objects"][0]["prompted_frames"] == [0, 7, 8, 9, 10, 11]


def test_a_window_can_be_propagated_and_exported(colours: SamClient, tmp_path: Path) -> None:
    with colours.live(64, 48, keep_frames=4) as live:
        for index in range(8):
            live.push(picture(20 + index))
            if index == 0:
                red(live)
        red(live, 5, 25)
        assert [frame.index for frame in live.propagate()] == [4, 5, 6, 7]
        assert [frame.index for frame in live.propagate(start_frame=6, direction="backward")] == [6, 5, 4]
        coco = json.loads(live.export("coco", tmp_path).read_text())
        assert len(coco["images"]) == 4
        with pytest.raises(ServiceProblem) as refused:
            live.export("webm", tmp_path, size="original")
        assert (refused.value.status, [*refused.value.fields]) == (422, ["size"])
        assert live.push(picture(28)).masks[2].area > 100


def test_watchers_see_each_frame(colour_url: str, colours: SamClient) -> None:
    with colours.live(64, 48) as live:
        address = f"{colour_url.replace('http', 'ws')}/sessions/{live.session_id}/events?mask_format=rle"
        with connect(address) as socket:
            assert json.loads(socket.recv(60))["session"]["live"]["policy"] == "latest"
            live.push(picture(20))
            red(live)
            answered = live.push(picture(21))
            seen: list[dict[str, Any]] = []
            while not seen or seen[-1].get("frame_idx") != 1:
                seen.append(json.loads(socket.recv(60)))
    assert [item["frame_idx"] for item in seen if item["event"] == "frame"] == [0, 1]
    assert seen[-1]["objects"][0]["mask"] == answered.masks[1].rle


def jpeg(orientation: int | None = None, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: object) -> bytes:
    """A picture with a bright left half, and EXIF that says how it lies."""
    image = Image.fromarray(np.repeat(np.where(np.arange(size[0]) < size[0] // 2, 220, 30)[None], size[1], 0).astype(np.uint8))
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    file = io.BytesIO()
    image.convert(mode).save(file, "JPEG", quality=95, exif=exif, **options)
    return file.getvalue()


def test_a_camera_s_jpeg_is_turned_upright_and_loses_its_metadata(colours: SamClient) -> None:
    with colours.live(64, 48) as live:
        live.push(jpeg())
        live.push(jpeg(1))
        assert live.frame(0) == live.frame(1)
        live.push(jpeg(3))
        turned = np.asarray(Image.open(io.BytesIO(live.frame(2))).convert("L"))
        assert turned[:, 40:].mean() > 150 > turned[:, :24].mean()
        live.push(jpeg(progressive=True))  # many scans cost the service a pass each, so it is written anew
        assert live.frame(3).count(b"\xff\xda") == 1
        assert np.asarray(Image.open(io.BytesIO(live.frame(3))).convert("L"))[:, :24].mean() > 150
        live.push(jpeg(mode="CMYK"))
        live.push(jpeg(6, size=(48, 64)))
        assert jpeg_size(live.frame(5)) == (64, 48)


def test_large_pictures_are_brought_to_the_size_of_the_session() -> None:
    with local_service(settings(sam2_model_size=colour_family.register(), max_frame_dimension=64)) as url, \
            SamClient(url) as client:
        client.wait_ready()
        with client.live(640, 480) as live:
            assert (live.width, live.height, live.info["scale_factor"]) == (64, 48, 0.1)
            live.push(cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8))[1].tobytes())
            live.push(picture(20))
            assert jpeg_size(live.frame(0)) == (64, 48)
            assert red(live) == 1


def animation() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48)).save(file, "WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")])
    return file.getvalue()


@pytest.mark.parametrize(("content", "kind", "query", "status", "code", "field"), [
    (b"", "image/jpeg", "", 415, "picture_damaged", "body"),
    (b"GIF89a" + bytes(40), "image/png", "", 415, "picture_damaged", "body"),
    (picture(20)[:-30], "image/png", "", 415, "picture_damaged", "body"),
    (picture(20, form=".jpg")[:300], "image/jpeg", "", 415, "picture_damaged", "body"),
    (picture(20, (60, 48)), "image/png", "", 422, "sizes_differ", "body"),
    (animation(), "image/webp", "", 422, "several_pictures", "body"),
    (picture(20), "application/json", "", 415, "unsupported_body", "content-type"),
    (picture(20), "", "", 415, "unsupported_body", "content-type"),
    (picture(20), "image/png", "?frame_idx=5", 409, "frame_out_of_order", "frame_idx"),
    (picture(30), "image/png", "?frame_idx=0", 409, "frame_out_of_order", "frame_idx"),
    (picture(20), "image/png", "?timestamp_s=0", 422, "invalid_input", "timestamp_s"),
    (picture(20), "image/png", "?timestamp_s=inf", 422, "invalid_input", "timestamp_s"),
    (picture(20), "image/png", "?mask_format=gif", 422, "invalid_input", "mask_format"),
    (bytes((16 << 20) + 1), "image/png", "", 413, "body_too_large", None),
])
def test_what_cannot_be_pushed_is_named_and_leaves_the_session_as_it_was(
        colours: SamClient, content: bytes, kind: str, query: str, status: int, code: str, field: str | None) -> None:
    with colours.live(64, 48, policy="all") as live:
        live.push(picture(20))
        red(live)
        path = f"/sessions/{live.session_id}/frames{query}"
        answer = colours.http.put(path, content=content, headers={"Content-Type": kind} if kind else {})
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert field is None or answer.json()["errors"][0]["field"] == field
        frame = live.push(picture(21))
        assert frame.index == 1 and frame.masks[1].area > 100


@pytest.mark.parametrize(("body", "field"), [
    ({"live": True}, "width"), ({"live": True, "width": 4, "height": 48}, "width"),
    ({"live": True, "width": 64, "height": 99999}, "height"), ({"live": False, "width": 64, "height": 48}, "live"),
    ({"live": True, "width": 64, "height": 48, "policy": "some"}, "policy"),
    ({"live": True, "width": 64, "height": 48, "keep_frames": 1}, "keep_frames"),
    ({"live": True, "width": 64, "height": 48, "keep_frames": 5000}, "keep_frames"),
    ({"live": True, "width": 64, "height": 48, "video_path": "a.mp4"}, "video_path"),
    ({"live": True, "width": 64, "height": 48, "image_size": 4096}, "image_size"),
])
def test_what_cannot_be_opened_live_is_named(colours: SamClient, body: dict[str, Any], field: str) -> None:
    answer = colours.http.post("/initialize", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_a_session_with_a_file_takes_no_frames(client: SamClient, video: Any) -> None:
    content, kind = picture(20), {"Content-Type": "image/png"}
    answer = client.http.put(f"/sessions/{video.session_id}/frames", content=content, headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_live")
    answer = client.http.post(f"/sessions/{video.session_id}/rewind", json={"frame_idx": 0})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_live")
    with pytest.raises(ServiceProblem) as refused:
        video.add_object(points=[[1, 1]], frame_idx="latest")
    assert (refused.value.status, [*refused.value.fields]) == (422, ["frame_idx"])
    assert client.http.put("/sessions/none/frames", content=content, headers=kind).status_code == 404


@pytest.mark.slow
def test_a_step_takes_its_time_and_no_more() -> None:
    """By processor time, which other work on the machine does not stretch."""
    figures = measure(400, image_size=128)
    print(figures)
    assert figures.cpu_p95_to_median <= 1.5


def test_nothing_can_be_prompted_before_the_first_frame(colours: SamClient) -> None:
    with colours.live(64, 48) as live:
        for frame_idx in ("latest", 0):
            with pytest.raises(ServiceProblem) as refused:
                red(live, frame_idx)
            assert (refused.value.status, refused.value.code) == (404, "no_frame")


def test_arrays_are_pushed_as_pictures_and_other_values_are_refused(colours: SamClient) -> None:
    with colours.live(64, 48) as live:
        frame = live.push(np.full((48, 64, 3), 200, np.uint8), masks=False)
        assert isinstance(frame, LiveFrame) and frame.dropped == 0 and frame.step_ms > 0
        for wrong in (np.zeros((48, 64)), b"text"):
            with pytest.raises(ValueError, match="picture"):
                live.push(wrong)  # type: ignore[arg-type]
