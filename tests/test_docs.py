"""The commands of the documents work as they stand, one after the other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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


def test_the_python_examples(folder: Path, address: str) -> None:
    examples = [example for document in ("README.md", "docs/client.md") for example in blocks(document, "python")]
    assert len(examples) >= 3
    for example in examples:
        done = run([sys.executable, "-c", example.replace(DEFAULT_URL, address)], folder)
        assert done.returncode == 0, example + done.stderr
