"""Every kind of file that a client may send, video or not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from sam_service.errors import NotAVideo, NotFound, TooLarge
from sam_service.video.containers import Container, sniff
from sam_service.video.limits import VideoLimits
from sam_service.video.probe import probe

from tests import clips

LIMITS = VideoLimits()


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("clip.mp4", "mp4v", Container.MP4),
        ("clip.mov", "mp4v", Container.MP4),
        ("clip.mkv", "mp4v", Container.MATROSKA),
        ("clip.webm", "VP90", Container.MATROSKA),
        ("clip.avi", "MJPG", Container.AVI),
        ("clip.ts", "mp4v", Container.MPEG_TS),
        ("clip.mpg", "MPG1", Container.MPEG_PS),
        ("clip.flv", "FLV1", Container.FLV),
    ],
)
def test_accepted_containers_are_told_by_their_content(
    tmp_path: Path, name: str, codec: str, container: Container
) -> None:
    video = clips.write_video(tmp_path / name, codec=codec)
    disguised = video.rename(tmp_path / "upload.bin")

    info = probe(disguised, LIMITS)

    assert (info.width, info.height, info.fps, info.container) == (160, 120, 25, container)
    assert info.num_frames == pytest.approx(12, abs=1)
    assert info.duration_s == pytest.approx(0.48, abs=0.05)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_size_is_that_of_the_upright_picture(tmp_path: Path, degrees: int) -> None:
    source = clips.write_video(tmp_path / "clip.mp4", frames=2)
    info = probe(clips.rotated(source, tmp_path / "turned.mp4", degrees), LIMITS)
    assert (info.width, info.height) == ((160, 120) if degrees == 180 else (120, 160))


def test_odd_size_is_kept(tmp_path: Path) -> None:
    path = clips.write_avi(tmp_path / "odd.avi", clips.jpeg_frames(2, 161, 121), 161, 121)
    info = probe(path, LIMITS)
    assert (info.width, info.height) == (161, 121)


@pytest.mark.parametrize(("ticks", "fps"), [(1, 12800), (0, 25 / 6)])
def test_a_frame_rate_is_that_of_the_times_or_else_what_the_file_says(tmp_path: Path, ticks: int, fps: float) -> None:
    source = clips.write_video(tmp_path / "clip.mp4", frames=6)
    info = probe(clips.retimed(source, tmp_path / "lie.mp4", [ticks] * 6), LIMITS)
    assert info.fps == pytest.approx(fps)
    assert info.duration_s is not None


IMAGE = cv2.imencode(".jpg", clips.picture(0))[1].tobytes()
NOT_VIDEOS = {
    "text": b"this is not a video, whatever its name says\n" * 30,
    "hls": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nfile:///secret\n",
    "concat": b"ffconcat version 1.0\nfile 'secret.mp4'\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5000 RTP/AVP 96\n",
    "subtitles": b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
    "jpeg": IMAGE,
    "png": cv2.imencode(".png", clips.picture(0))[1].tobytes(),
    "gif": b"GIF89a" + bytes(200),
    "webp": b"RIFF\x00\x01\x00\x00WEBPVP8 " + bytes(200),
    "heic": b"\x00\x00\x00\x18ftypheic" + bytes(200),
    "zip": b"PK\x03\x04" + bytes(200),
    "one byte": b"\x00",
}


@pytest.mark.parametrize("content", NOT_VIDEOS.values(), ids=NOT_VIDEOS.keys())
def test_what_is_not_a_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "upload.mp4"
    path.write_bytes(content)
    with pytest.raises(NotAVideo) as caught:
        probe(path, LIMITS)
    assert (caught.value.code, caught.value.field) == ("not_a_video", None)


NAMED = {
    "jpeg": (IMAGE, r"single picture \(JPEG\).*folder"),
    "png": (cv2.imencode(".png", clips.picture(0))[1].tobytes(), "PNG"),
    "playlist": (b"#EXTM3U\n#EXTINF:10,\na.ts\n", "playlist"),
    "web page": (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "realmedia": (b".RMF\x00\x00\x00\x12" + bytes(100), "RealMedia"),
    "tar": (bytes(257) + b"ustar" + bytes(100), "TAR"),
    "bare mpeg-4": (b"\x00\x00\x01\xb0\x01" + bytes(100), "MPEG-4"),
}


@pytest.mark.parametrize(("content", "name"), NAMED.values(), ids=NAMED.keys())
def test_what_is_refused_is_named_with_a_way_to_convert_it(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / "upload.mp4"
    path.write_bytes(content)
    with pytest.raises(NotAVideo, match=rf"the file is .*{name}.*ffmpeg -i") as caught:
        probe(path, LIMITS)
    assert caught.value.code == "not_a_video"


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    with pytest.raises(NotAVideo) as caught:
        probe(path, LIMITS)
    assert caught.value.code == "empty_file"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        probe(tmp_path / "none.mp4", LIMITS)
    with pytest.raises(NotAVideo):
        probe(tmp_path, LIMITS)


def test_zero_frames(tmp_path: Path) -> None:
    whole = clips.write_video(tmp_path / "whole.mp4")
    empties = [
        clips.write_avi(tmp_path / "none.avi", []),
        clips.write_avi(tmp_path / "all_damaged.avi", [b"\x00" * 500] * 5),
        clips.cut_off(whole, tmp_path / "no_moov.mp4", 0.6),
    ]
    for path in empties:
        with pytest.raises(NotAVideo) as caught:
            probe(path, LIMITS)
        assert caught.value.code == "no_frames"
        assert "moov" not in caught.value.message


def test_the_decoder_keeps_its_messages_to_itself(tmp_path: Path) -> None:
    whole = clips.write_video(tmp_path / "whole.mp4", frames=24)
    for path in (
        clips.cut_off(whole, tmp_path / "cut.mp4", 0.6),
        clips.damaged(whole, tmp_path / "damaged.mp4", 0.1, 0.9),
    ):
        code = "import sys; from pathlib import Path; from sam_service.video.limits import VideoLimits\n"
        code += "from sam_service.video.probe import probe\nprobe(Path(sys.argv[1]), VideoLimits())"
        run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60)
        assert "sam_service.errors" in run.stderr or run.returncode == 0
        assert "moov" not in run.stderr
        assert "mpeg4" not in run.stderr


def test_one_frame(tmp_path: Path) -> None:
    assert probe(clips.write_video(tmp_path / "one.mp4", frames=1), LIMITS).num_frames == 1


def test_pixel_limit(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "clip.mp4", frames=1)
    assert probe(path, VideoLimits(max_pixels=160 * 120)).width == 160
    with pytest.raises(TooLarge, match="160 x 120"):
        probe(path, VideoLimits(max_pixels=160 * 120 - 1))


def test_a_name_that_looks_like_a_protocol_is_only_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clips.write_video(tmp_path / "clip.mp4").rename(tmp_path / "concat:a|b%03d.mp4")
    assert probe(Path("concat:a|b%03d.mp4"), LIMITS).width == 160


def test_a_name_like_that_of_a_row_of_images_is_only_a_name(tmp_path: Path) -> None:
    video = clips.write_video(tmp_path / "clip.mpg", codec="MPG1").rename(tmp_path / "a%03d.jpg")
    assert probe(video, LIMITS).container is Container.MPEG_PS


def test_no_link_is_followed(tmp_path: Path) -> None:
    clips.write_video(tmp_path / "clip.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "clip.mp4")
    (tmp_path / "folder").symlink_to(tmp_path)
    for path in (tmp_path / "link.mp4", tmp_path / "folder" / "clip.mp4"):
        with pytest.raises(NotFound):
            probe(path, LIMITS)


def test_a_pipe_a_socket_and_a_device_are_no_videos(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.mp4"))
        for path in (tmp_path / "pipe.mp4", Path("/dev/zero"), tmp_path / "socket.mp4"):
            with pytest.raises((NotAVideo, NotFound)):
                probe(path, LIMITS)


@pytest.mark.parametrize(("name", "codec"), [("clip.avi", "ASV1"), ("clip.avi", "MAGY"), ("clip.mkv", "SNOW")])
def test_a_codec_that_is_not_on_the_list(tmp_path: Path, name: str, codec: str) -> None:
    with pytest.raises(NotAVideo, match=r"H\.264.*ffmpeg -i") as caught:
        probe(clips.write_video(tmp_path / name, codec=codec), LIMITS)
    assert caught.value.code == "codec_not_accepted"


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "VP80"), ("a.mkv", "FFV1"), ("a.avi", "XVID"), ("a.mpg", "MPG2")])
def test_further_codecs(tmp_path: Path, name: str, codec: str) -> None:
    assert probe(clips.write_video(tmp_path / name, codec=codec), LIMITS).width == 160


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (VideoLimits(max_bytes=1000), "file_too_large"),
        (VideoLimits(max_side=159), "too_many_pixels"),
        (VideoLimits(max_source_frames=11), "too_many_frames"),
        (VideoLimits(max_duration_s=0.4), "too_long"),
    ],
)
def test_limits_have_their_codes(tmp_path: Path, limits: VideoLimits, code: str) -> None:
    with pytest.raises(TooLarge) as caught:
        probe(clips.write_video(tmp_path / "clip.mp4"), limits)
    assert (caught.value.code, caught.value.field) == (code, None)


def test_transport_stream_of_a_camcorder() -> None:
    packet = bytes(4) + b"\x47" + bytes(187)
    assert sniff(packet * 4) is Container.MPEG_TS
    assert sniff(packet) is None
