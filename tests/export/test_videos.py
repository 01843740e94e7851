"""Videos and cut-outs."""

from __future__ import annotations

import io
import resource
import signal
import struct
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from sam_service.client import SamClient, VideoSession
from sam_service.errors import Conflict, ServiceError
from sam_service.export.clip import Look
from sam_service.export.cutout import feathered
from sam_service.export.overlay import draw_look, draw_overlay
from sam_service.export.pictures import SourcePictures
from sam_service.failures import is_disk_full
from sam_service.video.writer import Mp4Writer, WebmWriter, shown_for

from tests.clips import jpeg_frames, number_in, retimed, write_avi, write_video
from tests.export.support import export, frames_of, stored, unzipped, webm_elements
from tests.support import iou
from tests.video.conftest import decoded


def test_webm_shows_the_objects_in_their_colours(tracked: VideoSession, tmp_path: Path) -> None:
    response = export(tracked, format="webm", object_ids="1")
    assert response.headers["content-type"] == "video/webm"
    path = tmp_path / "overlay.webm"
    path.write_bytes(response.content)
    pictures = frames_of(path)
    assert len(pictures) == 12
    for frame in (0, 5):
        plain = cv2.imdecode(np.frombuffer(tracked.frame(frame), np.uint8), cv2.IMREAD_COLOR_RGB)
        expected = draw_overlay(np.asarray(plain, np.uint8), {1: stored(tracked, frame, 1)})
        assert cv2.PSNR(cv2.cvtColor(pictures[frame], cv2.COLOR_BGR2RGB), expected) > 30
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(24, abs=0.1)


@pytest.mark.parametrize(("look", "opacity"), [("tint", 0.8), ("outline", None), ("spotlight", None), ("blur", None)])
def test_a_look_is_what_the_video_shows(tracked: VideoSession, tmp_path: Path, look: Look, opacity: float | None) -> None:
    options = {} if opacity is None else {"opacity": opacity}
    path = tmp_path / "look.mp4"
    path.write_bytes(export(tracked, format="mp4", object_ids="1", look=look, end_frame=1, **options).content)
    (shown, _), plain = frames_of(path), cv2.imdecode(np.frombuffer(tracked.frame(0), np.uint8), cv2.IMREAD_COLOR_RGB)
    mask = stored(tracked, 0, 1)
    expected = draw_look(np.asarray(plain, np.uint8), {1: mask}, look, opacity)
    assert cv2.PSNR(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), expected) > 30
    changed = np.abs(expected.astype(int) - plain).max(axis=2) > 3
    inside, far = cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) > 0, cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) == 0
    assert (changed[inside].mean() > 0.9, changed[far].mean() > 0.5) == {
        "tint": (True, False), "outline": (False, False), "spotlight": (False, True), "blur": (False, True)}[look]


def test_mp4_is_h264_with_its_index_in_front_and_the_same_each_time(tracked: VideoSession) -> None:
    response = export(tracked, format="mp4")
    assert response.headers["content-type"] == "video/mp4"
    data = response.content
    assert data[4:8] == b"ftyp" and 0 < data.find(b"moov") < data.find(b"mdat") and b"avc1" in data
    assert export(tracked, format="mp4").content == data


@pytest.mark.parametrize(("query", "field"), [
    ({"format": "coco", "look": "blur"}, "look"), ({"format": "png", "opacity": 0.5}, "opacity"),
    ({"format": "mp4", "opacity": 1.5}, "opacity"), ({"format": "webm", "look": "glow"}, "look")])
def test_a_look_that_makes_no_sense_is_refused(tracked: VideoSession, query: dict[str, str | float], field: str) -> None:
    answer = tracked.client.http.get(f"/sessions/{tracked.session_id}/export", params=query)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


def test_webm_is_what_browsers_play(tracked: VideoSession) -> None:
    elements = list(webm_elements(export(tracked, format="webm").content))
    values = dict(elements)
    assert values["DocType"] == b"webm"
    assert values["CodecID"] == b"V_VP8"
    scale = int.from_bytes(values["TimestampScale"])
    (duration,) = struct.unpack(">d", values["Duration"])
    assert duration * scale / 1e9 == pytest.approx(0.5, abs=0.03)
    assert sum(name in ("SimpleBlock", "Block") for name, _ in elements) == 12


def test_a_varying_frame_rate_keeps_its_length(client: SamClient, tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", 6)
    varying = retimed(plain, tmp_path / "varying.mp4", [512, 512, 1024, 2048, 512, 512])
    with client.open_video(varying) as video:
        video.add_object(points=[[80, 60]])
        video.frame(5)
        path = tmp_path / "overlay.webm"
        path.write_bytes(export(video, format="webm").content)
        assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(5 / (4608 / 12800), rel=0.02)


def test_cutout_has_the_mask_as_alpha(tracked: VideoSession, tmp_path: Path) -> None:
    response = export(tracked, format="cutout", object_ids="1", end_frame=5)
    elements = list(webm_elements(response.content))
    values = dict(elements)
    assert (values["CodecID"], values["AlphaMode"]) == (b"V_VP9", b"\x01")
    alphas = [body for name, body in elements if name == "BlockAdditional"]
    path = tmp_path / "alpha.ivf"
    path.write_bytes(ivf(alphas))
    pictures = frames_of(path)
    assert len(pictures) == 6
    for frame in range(6):
        assert iou(pictures[frame][..., 0] > 127, stored(tracked, frame, 1)) > 0.97


def ivf(packets: list[bytes], width: int = 640, height: int = 360) -> bytes:
    """VP9 packets as a file that OpenCV reads."""
    head = struct.pack("<4sHH4sHHIIII", b"DKIF", 0, 32, b"VP90", width, height, 24, 1, len(packets), 0)
    return head + b"".join(struct.pack("<IQ", len(packet), at) + packet for at, packet in enumerate(packets))


def test_cutout_png_is_transparent_around_the_objects(tracked: VideoSession) -> None:
    files = unzipped(export(tracked, format="cutout-png", object_ids="1,3", start_frame=8))
    assert set(files) == {f"{frame:05d}.png" for frame in range(8, 12)}
    picture = np.asarray(Image.open(io.BytesIO(files["00009.png"])))
    whole = stored(tracked, 9, 1) | stored(tracked, 9, 3)
    assert np.array_equal(picture[..., 3], np.where(whole, 255, 0))
    frame = np.asarray(cv2.imdecode(np.frombuffer(tracked.frame(9), np.uint8), cv2.IMREAD_COLOR_RGB))
    assert np.array_equal(picture[..., :3], np.where(whole[..., None], frame, 0))
    assert not np.asarray(Image.open(io.BytesIO(files["00011.png"]))).any(), "no mask is stored there"


def test_feather_softens_the_edge_and_nothing_else(tracked: VideoSession) -> None:
    files = unzipped(export(tracked, format="cutout-png", object_ids="1", feather=8, end_frame=0))
    alpha = np.asarray(Image.open(io.BytesIO(files["00000.png"])))[..., 3]
    mask = stored(tracked, 0, 1)
    assert ((alpha > 0) & (alpha < 255)).any()
    assert np.array_equal(alpha > 127, mask)


def test_feather_is_as_wide_as_it_says() -> None:
    mask = np.zeros((9, 100), np.bool_)
    mask[:, 50:] = True
    row = feathered(mask, 20)[4]
    assert (row[:40].max(), row[60:].min()) == (0, 255)
    assert (np.diff(row[40:60].astype(int)) > 0).all()
    assert feathered(np.ones((4, 4), np.bool_), 5).min() == 255
    assert feathered(np.zeros((4, 4), np.bool_), 5).max() == 0


@pytest.mark.parametrize("form", ["webm", "cutout"])
def test_an_odd_size_loses_a_pixel(client: SamClient, tmp_path: Path, form: str) -> None:
    odd = write_avi(tmp_path / "odd.avi", jpeg_frames(4, 161, 121), 161, 121)
    with client.open_video(odd) as video:
        video.add_object(points=[[80, 60]])
        video.frame(3)
        path = tmp_path / "odd.webm"
        path.write_bytes(export(video, format=form).content)
        assert [picture.shape for picture in frames_of(path)] == [(120, 160, 3)] * 4


def test_an_export_that_is_given_up_waits_for_no_picture(tmp_path: Path) -> None:
    """The decoding process is held up, as it is while it decodes up to a late frame; giving up ends it."""
    pictures = SourcePictures(write_video(tmp_path / "clip.mp4").resolve(), 160, 120, lambda index: index)
    with pictures:
        assert pictures.read(0).shape == (120, 160, 3)
        started = pictures._process._started
        assert started is not None
        started.process.send_signal(signal.SIGSTOP)
        giving_up = threading.Timer(0.2, pictures.cancel)
        giving_up.start()
        with pytest.raises(ServiceError):
            for index in range(1, 13):
                pictures.read(index)
        giving_up.join()
        assert started.process.wait(10) == -signal.SIGKILL


def test_pictures_of_the_source_are_those_of_the_frames(tmp_path: Path) -> None:
    path = write_avi(tmp_path / "clip.avi", jpeg_frames(9)).resolve()
    with SourcePictures(path, 160, 120, lambda index: 2 + 3 * index, stride=3) as pictures:
        for index in range(3):
            assert number_in(pictures.read(index)) == 2 + 3 * index
    with SourcePictures(path, 320, 240, lambda index: index) as other, pytest.raises(Conflict):
        other.read(0)
    with SourcePictures(tmp_path / "gone.avi", 160, 120, lambda index: index) as gone, pytest.raises(Conflict):
        gone.read(0)


def test_a_video_that_has_no_room_says_so(tmp_path: Path) -> None:
    """The encoder's own error arrives: no file may grow past a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        writer = WebmWriter(tmp_path / "full.webm", 160, 120, 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    noise = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    with pytest.raises(OSError) as caught, writer:
        for index in range(40):
            writer.add(noise, index / 25, 1 / 25)
    assert is_disk_full(caught.value)


@pytest.mark.parametrize("times_s", [[0.0, 3600.0, 7200.0], [0.0, 0.0005, 0.001, 0.0015], [0.0]])
def test_every_picture_is_in_the_file_whatever_its_time(tmp_path: Path, times_s: list[float]) -> None:
    path = tmp_path / "clip.webm"
    with WebmWriter(path, 64, 48, 25) as writer:
        for at, for_s in zip(times_s, shown_for(times_s, 25), strict=True):
            writer.add(np.full((48, 64, 3), 90, np.uint8), at, for_s)
    clip = decoded(path)
    assert clip.times_s == pytest.approx(times_s, abs=0.001)


@pytest.mark.parametrize(("suffix", "alpha", "height", "matrix"), [
    (".mp4", False, 720, 1), (".mp4", False, 360, 5), (".webm", False, 720, 5), (".webm", True, 720, 1),
    (".webm", True, 360, 5)])
def test_a_video_says_how_its_colours_are_to_be_read(
        tmp_path: Path, suffix: str, alpha: bool, height: int, matrix: int) -> None:
    red, path = (176, 24, 24), tmp_path / f"red{suffix}"
    picture = np.full((height, 64, 4 if alpha else 3), (*red[::-1], 255) if alpha else red, np.uint8)
    with (Mp4Writer if suffix == ".mp4" else WebmWriter)(path, 64, height, 10, alpha=alpha) as writer:
        for index in range(2):
            writer.add(picture, index / 10, 0.1)
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        assert isinstance(frame, av.VideoFrame)
        said = (frame.colorspace, frame.color_range)
        shown = frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()[height // 2, 32]
    assert said == (matrix, 1)
    assert np.abs(shown.astype(int) - red).max() < 8
    assert np.abs(decoded(path).pictures[0][height // 2, 32].astype(int) - red).max() < 8
