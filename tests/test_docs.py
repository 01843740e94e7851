"""The commands of the documents work as they stand, one after the other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sam_service.client import SamClient
from sam_service.defaults import DEFAULT_URL
from sam_service.local import local_service

from tests.support import settings

ROOT = Path(__file__).parent.parent
PRELUDE = """set -euo pipefail
curl() { command curl --fail-with-body --show-error "$@"; }
"""


def blocks(document: str, language: str) -> list[str]:
    """The fenced code of a document, in order."""
    text = (ROOT / document).read_text()
    return [found[1] for found in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


@pytest.fixture
def folder(tmp_path: Path, clip: Path) -> Path:
    """A folder as the documents suppose it: with `videos/clip.mp4`, `clip.mp4`, and `python3` that of the tests."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "bin").mkdir()
    for place in (tmp_path / "videos" / "clip.mp4", tmp_path / "clip.mp4"):
        shutil.copyfile(clip, place)
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    return tmp_path


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    with local_service(settings(sam2_video_dir=folder / "videos")) as url, SamClient(url) as client:
        client.wait_ready()
        yield url


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
                   "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(arguments, cwd=folder, env=environment, timeout=120, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="needs curl and bash")
def test_the_api_guide(folder: Path, address: str) -> None:
    script = "".join(blocks("docs/api.md", "sh"))
    assert DEFAULT_URL in script
    done = run(["bash", "-c", PRELUDE + script.replace(DEFAULT_URL, address)], folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert {path.name for path in folder.iterdir()} >= {"frame.jpg", "thumbnail.jpg", "mask.png", "events.txt"}


@pytest.mark.skipif(not all(map(shutil.which, ("curl", "bash", "unzip"))), reason="needs curl, bash and unzip")
def test_the_commands_of_exports(folder: Path, address: str) -> None:
    """Their tools as well: unzip, pycocotools and Label Studio's converter; its line is left out where it is not installed."""
    with SamClient(address) as client, client.open_video_on_server("clip.mp4", max_frames=3) as video:
        video.add_object(points=[[150, 200]], name="ball")
        list(video.propagate())
        script = "".join(blocks("docs/exports.md", "sh"))
        assert "label-studio-converter import" in script
        if shutil.which("label-studio-converter") is None:
            script = "".join(line for line in script.splitlines(keepends=True) if not line.startswith("label-studio-converter"))
        done = run(["bash", "-c", f"{PRELUDE}S={address} ID={video.session_id}\n{script}"], folder)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    archives = {name: set(zipfile.ZipFile(folder / f"{name}.zip").namelist()) for name in (
        "masks", "davis", "yolo", "labelme", "cutout")}
    assert archives["masks"] == {"index.json", *(f"masks/ball/{frame:05d}.png" for frame in range(3))}
    assert {"Annotations/clip/00002.png", "JPEGImages/clip/00002.jpg"} <= archives["davis"]
    assert {"labels/00002.txt", "images/00002.jpg"} <= archives["yolo"]
    assert {"clip/00002.json", "clip/00002.jpg"} <= archives["labelme"]
    assert len(archives["cutout"]) >= 3
    assert {(folder / name).read_bytes()[:4] for name in ("overlay.webm", "cutout.webm")} == {b"\x1a\x45\xdf\xa3"}
    assert len(json.loads((folder / "annotations.json").read_bytes())["annotations"]) == 3


def test_the_python_examples(folder: Path, address: str) -> None:
    examples = [example for document in ("README.md", "docs/client.md", "docs/triton.md")
                for example in blocks(document, "python")]
    assert len(examples) >= 3
    for example in examples:
        done = run([sys.executable, "-c", example.replace(DEFAULT_URL, address)], folder)
        assert done.returncode == 0, example + done.stderr
