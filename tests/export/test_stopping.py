"""An export whose picture takes for ever is given up when its client leaves, and when the service stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
from sam_service.client import SamClient
from sam_service.errors import CapacityError
from sam_service.export.pictures import SourcePictures
from sam_service.local import local_service

from tests import colour_family
from tests.clips import write_video
from tests.support import settings


class Slow:
    """Decoding that takes until it is cancelled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.cancelled = threading.Event(), threading.Event()
        monkeypatch.setattr(SourcePictures, "read", self.read)
        monkeypatch.setattr(SourcePictures, "cancel", self.cancelled.set)

    def read(self, index: int) -> NoReturn:
        self.begun.set()
        assert self.cancelled.wait(60)
        raise CapacityError("the decoding was cancelled")


@pytest.fixture
def colour() -> Iterator[str]:
    yield colour_family.register()
    colour_family.forget()


@pytest.mark.parametrize("form", ["webm", "cutout-png"])
def test_a_client_that_leaves_ends_the_picture_in_work(
        tmp_path: Path, colour: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    clip = write_video(tmp_path / "clip.mp4", 3)
    with local_service(settings(sam2_model_size=colour)) as url, SamClient(url) as client:
        client.wait_ready()
        with client.initialize(clip) as video:
            video.add_object(points=[[30, 60]])
            query = {"format": form, "size": "original"}
            with pytest.raises(httpx.ReadTimeout):
                client.http.get(f"/sessions/{video.session_id}/export", params=query, timeout=0.5)
            assert slow.begun.is_set() and slow.cancelled.wait(60)


def test_a_stop_ends_the_picture_in_work(tmp_path: Path, colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, others = Slow(monkeypatch), set(threading.enumerate())
    clip = write_video(tmp_path / "clip.mp4", 3)
    with local_service(settings(sam2_model_size=colour)) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.initialize(clip)
        video.add_object(points=[[30, 60]])
        answers = list[int]()

        def export() -> None:
            query = {"format": "webm", "size": "original"}
            answers.append(httpx.get(f"{url}/sessions/{video.session_id}/export", params=query, timeout=60).status_code)

        exporting = threading.Thread(target=export)
        exporting.start()
        assert slow.begun.wait(60)
    assert slow.cancelled.is_set()
    exporting.join(60)
    assert answers == [503]
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("export")]
