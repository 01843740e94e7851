"""The command line, run as a person and as a script would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from sam_service import __version__
from sam_service.client import SamClient
from sam_service.commands.doctor import _port as port_check
from sam_service.commands.doctor import run_doctor
from sam_service.commands.words import counted, is_or_are
from sam_service.defaults import url_of
from sam_service.local import local_service
from sam_service.server import Server
from sam_service.settings import Settings, check_dotenv

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
        assert "undid add (object 1)" in run("sessions", "undo", session_id).stdout
        assert json.loads(run("sessions", "redo", session_id, "--json").stdout)["object_ids"] == [1]
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


def test_doctor_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor(settings(port=1, sam2_video_dir=tmp_path / "nowhere", sam2_data_dir=tmp_path), as_json=True) == 4
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert [item["name"] for item in document["checks"] if not item["ok"]] == ["videos"]
    assert all(item["detail"] for item in document["checks"])
    assert len(document["checks"]) == 8


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_ipv6_addresses_are_reached(tmp_path: Path) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no ::1")
    server = Server(settings(sam2_data_dir=tmp_path / "data"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        with SamClient(url_of("::1", listener.getsockname()[1])) as client:
            client.wait_ready()
        listed = command("sessions", "--url", url_of("::1", listener.getsockname()[1]), "--json", cwd=tmp_path)
        assert (listed.returncode, json.loads(listed.stdout)) == (0, {"sessions": []})
        found = port_check(settings(host="::1", port=listener.getsockname()[1]))
        assert found.startswith(f"a service {__version__} answers at http://[::1]:")
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.mark.parametrize(("host", "url"), [
    ("127.0.0.1", "http://127.0.0.1:8002"), ("::1", "http://[::1]:8002"), ("::", "http://[::1]:8002"),
    ("0.0.0.0", "http://127.0.0.1:8002"), ("gpu", "http://gpu:8002")])
def test_the_address_of_a_host(host: str, url: str) -> None:
    assert url_of(host, 8002) == url


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_there_is_help(tmp_path: Path, arguments: list[str]) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("serve", "segment", "demo", "models", "sessions", "doctor", "exit codes"):
        assert word in done.stdout


def test_version(tmp_path: Path) -> None:
    done = command("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sam-service {__version__}\n", "")


def test_models_alone_lists_them(tmp_path: Path) -> None:
    bare = command("models", cwd=tmp_path)
    assert (bare.returncode, bare.stderr) == (0, "")
    assert bare.stdout.splitlines()[1].startswith("nano")
    document = json.loads(command("models", "--json", cwd=tmp_path).stdout)
    assert document["models"][0]["size"] == "nano"


HEAVY = ("torch", "transformers", "cv2", "huggingface_hub", "fastapi", "uvicorn", "pycocotools", "psutil", "httpx", "numpy",
         "pydantic")
FIRST_WORDS = """
import os, sys
from sam_service.cli import main
class First:
    def isatty(self): return True
    def flush(self): pass
    def write(self, text):
        os.write(1, (",".join(name for name in {heavy} if name in sys.modules) + "|" + text).encode())
        os._exit(0)
sys.stdout = sys.stderr = First()
main({arguments})
"""


@pytest.mark.parametrize(("arguments", "word", "needed"), [
    (["serve"], "starts", set()), (["segment", "a.mp4", "--point", "1,2"], "a.mp4", set()), (["demo"], "demo", set()),
    (["models"], "models", set()), (["doctor"], "versions", {"pydantic"}), ([], "usage", set())])
def test_something_is_said_before_anything_heavy_is_imported(tmp_path: Path, arguments: list[str], word: str,
                                                            needed: set[str]) -> None:
    script = FIRST_WORDS.format(heavy=HEAVY, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True,
                          timeout=60, check=True)
    heavy, _, said = done.stdout.partition("|")
    assert word in said
    assert {name for name in heavy.split(",") if name} <= needed


def test_out_has_a_default_and_numbers_agree_with_their_nouns(tmp_path: Path, clip: Path, service: str) -> None:
    done = command("segment", clip, "--point", "150,200", "--url", service, "--max-frames", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert masks_in(tmp_path) == 1
    assert (tmp_path / "out" / "overlay.webm").is_file()
    assert "propagate 1 frame in" in done.stderr


@pytest.mark.parametrize(("number", "words"), [(0, "0 frames are"), (1, "1 frame is"), (2, "2 frames are")])
def test_plurals(number: int, words: str) -> None:
    assert is_or_are(number, "frame") == words
    assert words.startswith(counted(number, "frame"))


def test_coco_may_be_written_as_polygons(tmp_path: Path, clip: Path, service: str) -> None:
    done = command(*SEGMENT, clip, "--url", service, "--max-frames", "2", "--export", "coco", "--export", "labelme",
                   "--export-segmentation", "polygon", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "out" / "ball-coco.json").read_text())
    assert all(isinstance(item["segmentation"], list) for item in document["annotations"])
    assert (tmp_path / "out" / "ball-labelme.zip").is_file()


@pytest.mark.parametrize(("url", "start"), [
    ("http://127.0.0.1:9", "start one with `sam-service serve --port 9`"),
    ("http://[::1]:9", "start one with `sam-service serve --host ::1 --port 9`")])
@pytest.mark.parametrize("arguments", [["sessions"], ["segment", "text.mp4", "--point", "1,2"]])
def test_where_no_service_is_it_is_said_how_to_start_one(tmp_path: Path, url: str, start: str, arguments: list[str]) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    done = command(*arguments, "--url", url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[-1] == f"no service at {url}, {start}"


def test_an_empty_list_of_sessions_is_said(tmp_path: Path) -> None:
    with local_service(settings()) as url:
        for arguments in (["sessions"], ["sessions", "delete", "--all"]):
            done = command(*arguments, "--url", url, cwd=tmp_path)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "no session is open\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_dotenv_file_that_is_not_utf8_is_an_error(tmp_path: Path, encoding: str) -> None:
    (tmp_path / ".env").write_bytes("PORT=8002".encode(encoding))
    done = command("doctor", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert ".env" in done.stderr
    assert "UTF-8" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mark_at_the_beginning_of_a_dotenv_file_hides_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_bytes("PORT=8123\n".encode("utf-8-sig"))
    monkeypatch.chdir(tmp_path)
    check_dotenv()
    assert Settings().port == 8123  # type: ignore[call-arg]


def test_bench_measures_what_is_here_and_says_what_is_not(tmp_path: Path) -> None:
    done = command("bench", "--frames", "2", "--json", "--size", "nano", "--size", "tiny", cwd=tmp_path, HF_HOME=str(tmp_path))
    report = json.loads(done.stdout)
    plain, _, missing = report["runs"]
    assert done.returncode == 0 and plain["error"] is None
    assert plain["mode"]["exact"] and plain["frame_s"] > 0 and plain["peak_mib"] > 100 and "CPUs usable" in report["machine"]
    assert "models pull tiny" in missing["error"]


def test_demo_chooses_a_point_that_moves(tmp_path: Path, clip: Path) -> None:
    done = command("demo", "--video", clip, "--max-frames", "10", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "chosen where something moves" in done.stderr
    assert "propagate [###" in done.stderr
    assert (tmp_path / "out" / "overlay.webm").stat().st_size > 1000


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (["segment", "text.mp4", "--out", "out"], 2, "--point"),
    (["segment", "text.mp4", "--point", "1;2", "--out", "out"], 2, "got '1;2'"),
    (["segment"], 2, "video; `sam-service segment --help` lists the options"),
    (["segment", "text.mp4", "--point", "1,2", "--export", "gif"], 2, "'labelme'"),
    (["segment", "text.mp4", "--point", "1,2", "--export", "png", "--export-segmentation", "polygon"], 2, "--export coco"),
    (["segment", "text.mp4", "--point", "1,2", "--url", "gpu:8002"], 2, "--url: has to be like http://127.0.0.1:8002"),
    (["sessions", "--url", "http://::1:8002"], 2, "http://[::1]:8002"),
    (["fly"], 2, "'fly'"),
    (["segment", "text.mp4", "--box", "1:2,3,4", "--out", "out"], 2, "got '1:2,3,4'"),
    (["segment", "text.mp4", "--box", "1,2,3,4", "--box", "1:5,6,7,8", "--out", "out"], 2, "two boxes"),
    (["segment", "text.mp4", "--point", "1,2", "--name", "2=cup", "--out", "out"], 2, "object 2 has no"),
    (["segment", "text.mp4", "--point", "1,2", "--end", "-1", "--out", "out"], 2, "--end"),
    (["segment", "text.mp4", "--point", "1,2", "--url", "http://127.0.0.1:9", "--model-size", "tiny", "--out", "out"], 2,
     "--model-size"),
    (["serve", "--port", "99999"], 2, "PORT"),
    (["sessions", "delete"], 2, "--all"), (["sessions", "undo"], 2, "the ID of a session"),
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
    assert code != 2 or done.stderr.count("\n") == 1 + (arguments[0] == "serve"), "one line"
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
