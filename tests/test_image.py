"""The container image, built and run: `deploy/image_check.py`, behind the marker `image`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.image
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_image_is_what_the_documents_say(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-m", "deploy.image_check", "--work", str(tmp_path)], cwd=ROOT, env=environment,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
