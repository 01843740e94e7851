"""The command line, run as a person and as a script would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from sam_service.client import SamClient
from sam_service.local import local_service

from tests.support import settings

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
SEGMENT = ("segment", "--point", "150,200", "--out", "out")


def command(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sam_service", *map(str, arguments)], cwd=cwd, env=ENVIRONMENT | variables,
                          capture_output=True, text=True, timeout=120, check=False)


def disturbed(*arguments: str | Path, cwd: Path, when: Callable[[], bool], disturb: Callable[[subprocess.Popen[str]], None]
              ) -> subprocess.CompletedProcess[str]:
    """Run a command and do something to it, or to its service, at a moment of its work."""
    with subprocess.Popen([sys.executable, "-m", "sam_service", *map(str, arguments)], cwd=cwd, env=ENVIRONMENT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not when():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        disturb(process)
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def masks_in(folder: Path) -> int:
    return len(list((folder / "out" / "masks").glob("*.png")))


def test_segment_writes_masks_and_an_overlay(tmp_path: Path, clip: Path) -> None:
    done = command(*SEGMENT, clip, "--max-frames", "12", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert masks_in(tmp_path) == 12
    capture = cv2.VideoCapture(str(tmp_path / "out" / "overlay.webm"))
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 640
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == 12
    assert "frames/s" in done.stderr
    assert "[#" not in done.stderr, "a bar where nobody watches"
    assert done.stdout == ""


def test_several_objects_on_several_frames_as_one_document(tmp_path: Path, clip: Path, client: SamClient) -> None:
    done = command("segment", clip, "--url", str(client.http.base_url), "--max-frames", "10", "--json", "--quiet",
                   "--point", "1:150,200", "--point", "1:-500,50", "--name", "1=ball", "--point", "1:159,200@2",
                   "--box", "2:300,20,420,120@4", "--start", "2", "--end", "8", "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["state"], document["error"], document["model"]["size"]) == ("done", None, "nano")
    assert [(item["object_id"], item["name"], item["prompted_frames"]) for item in document["objects"]] \
        == [(1, "ball", [0, 2]), (2, "object 2", [4])]
    assert [frame["frame_idx"] for frame in document["frames"]] == list(range(2, 9))
    assert {"score", "object_score", "area", "bbox"} <= set(document["frames"][0]["objects"][0])
    assert document["objects"][0]["frames_found"] == 7
    masks, overlay = document["files"][:2]
    assert (masks["kind"], masks["count"]) == ("masks", len(list((tmp_path / masks["path"]).iterdir()))) == ("masks", 14)
    assert (tmp_path / overlay["path"]).is_file()
    assert document["session_id"] not in [session["session_id"] for session in client.sessions()]


def test_coordinates_may_be_fractions(tmp_path: Path, clip: Path, service: str) -> None:
    done = command("segment", clip, "--url", service, "--normalized", "--point", "0.234,0.556", "--max-frames", "1", "--json",
                   "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 2000 < json.loads(done.stdout)["frames"][0]["objects"][0]["area"] < 12000


def test_sessions_are_kept_listed_and_deleted(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(sam2_api_key="secret")) as url:
        def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
            return command(*arguments, "--url", url, cwd=tmp_path, SAM2_API_KEY="secret")

        kept = run(*SEGMENT, clip, "--max-frames", "2", "--keep-session", "--json")
        assert kept.returncode == 0, kept.stderr
        session_id = json.loads(kept.stdout)["session_id"]
        assert "ball.mp4" in (line := run("sessions").stdout)
        assert line.startswith(session_id)
        assert run("sessions", "delete", "0" * 32).returncode == 3
        assert json.loads(run("sessions", "delete", session_id, "--json").stdout) == {"deleted": [session_id]}
        assert run("sessions").stdout == ""
        refused = command("sessions", "--url", url, cwd=tmp_path)
        assert (refused.returncode, "unauthorized" in refused.stderr) == (3, True)


def test_doctor_looks_at_everything_and_says_what_is_wrong(tmp_path: Path) -> None:
    done = command("doctor", cwd=tmp_path, PORT="1", SAM2_VIDEO_DIR="nowhere")
    assert (done.returncode, done.stderr) == (4, ""), done.stdout
    lines = [line.split() for line in done.stdout.splitlines()[:-1]]
    assert [name for _, name, *_ in lines] == ["versions", "machine", "device", "model", "video", "data", "videos", "port"]
    assert [name for state, name, *_ in lines if state != "ok"] == ["videos"]


def test_demo_chooses_a_point_that_moves(tmp_path: Path, clip: Path) -> None:
    done = command("demo", "--video", clip, "--max-frames", "10", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "chosen where something moves" in done.stderr
    assert "propagate [###" in done.stderr
    assert (tmp_path / "out" / "overlay.webm").stat().st_size > 1000


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (["segment", "text.mp4", "--out", "out"], 2, "--point"),
    (["segment", "text.mp4", "--point", "1;2", "--out", "out"], 2, "got '1;2'"),
    (["segment", "text.mp4", "--box", "1:2,3,4", "--out", "out"], 2, "got '1:2,3,4'"),
    (["segment", "text.mp4", "--box", "1,2,3,4", "--box", "1:5,6,7,8", "--out", "out"], 2, "two boxes"),
    (["segment", "text.mp4", "--point", "1,2", "--name", "2=cup", "--out", "out"], 2, "object 2 has no"),
    (["segment", "text.mp4", "--point", "1,2", "--end", "-1", "--out", "out"], 2, "--end"),
    (["segment", "text.mp4", "--point", "1,2", "--url", "http://127.0.0.1:9", "--model-size", "tiny", "--out", "out"], 2,
     "--model-size"),
    (["serve", "--port", "99999"], 2, "PORT"),
    (["sessions", "delete"], 2, "--all"),
    (["segment", "missing.mp4", "--point", "1,2", "--out", "out"], 3, "no file missing.mp4"),
    (["segment", "text.mp4", "--point", "1,2", "--out", "text.mp4"], 3, "text.mp4"),
    (["demo", "--video", "missing.mp4", "--out", "out"], 3, "no file missing.mp4"),
    (["segment", "text.mp4", "--point", "1,2", "--url", "http://127.0.0.1:9", "--out", "out"], 4, "127.0.0.1:9"),
    (["sessions", "--url", "http://127.0.0.1:9"], 4, "127.0.0.1:9"),
])
def test_wrong_input_is_told_with_an_exit_code(tmp_path: Path, arguments: list[str], code: int, told: str) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    done = command(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("arguments", "code"), [
    (["text.mp4", "--point", "1,2"], "not_a_video"),
    (["ball.mp4", "--point", "9000,2"], "invalid_prompt"),
    (["ball.mp4", "--point", "1:-150,200"], "invalid_prompt"),
    (["ball.mp4", "--point", "150,200@99"], "not_found"),
])
def test_what_the_service_refuses_is_in_the_document(tmp_path: Path, clip: Path, service: str, arguments: list[str],
                                                     code: str) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "ball.mp4").symlink_to(clip)
    done = command("segment", *arguments, "--url", service, "--json", "--out", "out", cwd=tmp_path)
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert (document["state"], document["error"]["code"], document["frames"]) == ("refused", code, [])
    assert document["error"]["detail"] in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_cancels_keeps_what_is_computed_and_says_so(tmp_path: Path, clip: Path, client: SamClient) -> None:
    done = disturbed(*SEGMENT, clip, "--url", str(client.http.base_url), "--keep-session", "--json", cwd=tmp_path,
                     when=lambda: masks_in(tmp_path) >= 3, disturb=interrupt)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    written = masks_in(tmp_path)
    assert document["state"] == "interrupted"
    assert 3 <= len(document["frames"]) == written < 60
    assert f"{len(document['frames'])} frames are computed" in done.stderr
    with client.session(document["session_id"]) as session:
        session.cancel()
        assert len(session.state()["frames_with_masks"]) < 60
        session.delete()


def test_ctrl_c_ends_a_service_of_its_own_as_well(tmp_path: Path, clip: Path) -> None:
    done = disturbed(*SEGMENT, clip, cwd=tmp_path, when=lambda: masks_in(tmp_path) >= 3, disturb=interrupt)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "interrupted" in done.stderr
    assert 3 <= masks_in(tmp_path) < 72


def test_ctrl_c_ends_the_demo_without_a_trace(tmp_path: Path, clip: Path) -> None:
    done = disturbed("demo", "--video", clip, "--out", "out", cwd=tmp_path, when=lambda: masks_in(tmp_path) >= 1,
                     disturb=interrupt)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_what_fails_midway_is_told_and_what_is_written_stays(tmp_path: Path, clip: Path) -> None:
    def pull_away(_: subprocess.Popen[str]) -> None:
        for session in client.sessions():
            client.session(session["session_id"]).delete()

    with local_service(settings()) as url, SamClient(url) as client:
        done = disturbed(*SEGMENT, clip, "--url", url, "--json", cwd=tmp_path, when=lambda: masks_in(tmp_path) >= 3,
                         disturb=pull_away)
    assert done.returncode == 5
    document = json.loads(done.stdout)
    assert (document["state"], document["error"]["code"]) == ("failed", "cancelled")
    assert 3 <= len(document["frames"]) == masks_in(tmp_path) < 72
    assert "Traceback" not in done.stderr
