"""What all tests share: a real service on loopback with the embedded model, and real clips."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from sam_service.core.threads import apply_threads

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # workers side by side share the cores
apply_threads()  # before torch is imported
hypothesis.settings.register_profile("suite", deadline=None)  # no test depends on how busy the machine is
hypothesis.settings.load_profile("suite")

from sam_service.client import SamClient, VideoSession  # noqa: E402
from sam_service.demo_clip import render_clip  # noqa: E402
from sam_service.local import local_service  # noqa: E402
from sam_service.settings import Settings  # noqa: E402

from tests.support import settings  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """No test sees an option of the machine that it runs on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background; processes under test would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    names = [name for name in os.environ if name.lower() in Settings.model_fields]
    saved = {name: os.environ.pop(name) for name in names}
    yield
    os.environ.update(saved)
    for thread in threading.enumerate():  # of services that were stopped while they loaded: torch must not be cut off at exit
        if thread.name == "device":
            thread.join(60)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up clip of the demo: 72 frames of 640 x 360 with a ball."""
    return render_clip(tmp_path_factory.mktemp("clips") / "ball.mp4")


@pytest.fixture(scope="session")
def video_dir(clip: Path) -> Path:
    """The folder that the service under test reads videos from."""
    return clip.parent


@pytest.fixture(scope="session")
def service(video_dir: Path) -> Iterator[str]:
    """The address of one service for all tests that need no settings of their own."""
    with local_service(settings(sam2_video_dir=video_dir, max_upload_mb=5)) as url:
        yield url


@pytest.fixture(scope="session")
def client(service: str) -> Iterator[SamClient]:
    """A client whose service is ready."""
    with SamClient(service) as connected:
        connected.wait_ready()
        yield connected


@pytest.fixture
def video(client: SamClient, clip: Path) -> Iterator[VideoSession]:
    """A fresh session of the first 24 frames of the ball clip."""
    with client.open_video(clip, max_frames=24) as session:
        yield session


@pytest.fixture
def unused_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
