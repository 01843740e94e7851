"""The videos in the video folder, their pictures, and the sample clip."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sam_service.api import library_routes
from sam_service.client import SamClient
from sam_service.demo_clip import FRAMES, HEIGHT, WIDTH, render_clip
from sam_service.local import local_service
from sam_service.sessions import library as library_module
from sam_service.sessions.pools import Pools
from sam_service.video.cover import cover
from sam_service.video.limits import VideoLimits

from tests import clips
from tests.support import jpeg_size, settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video folder with what is to be listed and what is not."""
    root = tmp_path_factory.mktemp("library")
    (root / "deep" / "er").mkdir(parents=True)
    (root / "photos").mkdir()
    (root / ".hidden").mkdir()
    clips.write_video(root / "deep" / "er" / "ünïcode clip.mp4", 3, 160, 120)
    for at in range(2):
        cv2.imwrite(str(root / "photos" / f"{at}.png"), np.full((40, 60, 3), 90, np.uint8))
    clips.write_video(root / ".hidden" / "secret.mp4", 2)
    (root / "notes.txt").write_text("no video")
    (root / "broken.mp4").write_bytes((root / "deep" / "er" / "ünïcode clip.mp4").read_bytes()[:600])
    outside = tmp_path_factory.mktemp("outside")
    clips.write_video(outside / "outside.mp4", 2)
    os.symlink(outside / "outside.mp4", root / "link.mp4")
    os.symlink(outside, root / "linked")
    return root


@pytest.fixture(scope="module")
def library(folder: Path) -> Iterator[SamClient]:
    """A service with that folder. No model is needed to list it."""
    with local_service(settings(sam2_video_dir=folder)) as url, SamClient(url) as client:
        yield client


def test_videos_and_folders_of_pictures_are_listed(library: SamClient, folder: Path) -> None:
    found = library.call("GET", "/videos")
    assert (found["enabled"], found["complete"]) == (True, True)
    assert [video["video_path"] for video in found["videos"]] == ["broken.mp4", "deep/er/ünïcode clip.mp4", "photos"]
    clip, photos = found["videos"][1:]
    assert clip["size_bytes"] == (folder / clip["video_path"]).stat().st_size and not clip["is_folder"]
    assert photos["is_folder"] and photos["size_bytes"] == 0


def test_who_asks_while_a_list_is_made_gets_that_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    asked = threading.Event()
    look = library_module._listing

    def slow(root: Path) -> library_module.Listing:
        made.append(root)
        asked.wait()
        return look(root)

    async def ask() -> None:
        pools = Pools()
        videos = library_module.Library(folder, VideoLimits(), pools)
        waiting = [asyncio.ensure_future(videos.list()) for _ in range(9)]
        await asyncio.sleep(0)
        waiting.pop().cancel()
        waiting.pop(0).cancel()
        asked.set()
        lists = await asyncio.gather(*waiting)
        assert all(len(found.videos) == 3 for found in lists) and len(made) == 1
        assert len((await videos.list()).videos) == 3 and len(made) == 2
        pools.close()

    monkeypatch.setattr(library_module, "_listing", slow)
    asyncio.run(ask())


@pytest.mark.parametrize(("path", "size"), [("deep/er/ünïcode clip.mp4", (160, 120)), ("photos", (60, 40))])
def test_a_video_has_a_picture(library: SamClient, path: str, size: tuple[int, int]) -> None:
    answer = library.http.get("/videos/picture", params={"video_path": path})
    assert answer.headers["content-type"] == "image/jpeg"
    assert jpeg_size(answer.content) == size
    assert library.http.get("/videos/picture", params={"video_path": path}).content == answer.content


@pytest.mark.parametrize(("path", "status", "code"), [
    ("../outside/outside.mp4", 422, "path_outside"), ("link.mp4", 422, "path_outside"), ("none.mp4", 404, "not_found"),
    ("broken.mp4", 415, None), ("notes.txt", 415, "not_a_video"), ("", 422, None)])
def test_what_has_no_picture_is_an_error(library: SamClient, path: str, status: int, code: str | None) -> None:
    answer = library.http.get("/videos/picture", params={"video_path": path})
    assert answer.status_code == status
    assert code is None or answer.json()["code"] == code


def test_a_file_without_a_picture_is_decoded_once(library: SamClient, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    tried: list[Path] = []

    def counted(path: Path, *rest: Any) -> bytes:
        tried.append(path)
        return cover(path, *rest)

    monkeypatch.setattr(library_module, "cover", counted)
    (folder / "photos" / "again.mp4").write_bytes((folder / "broken.mp4").read_bytes())
    answers = [library.http.get("/videos/picture", params={"video_path": "photos/again.mp4"}) for _ in range(3)]
    (folder / "photos" / "again.mp4").unlink()
    assert [answer.status_code for answer in answers] == [415] * 3
    assert len({answer.json()["detail"] for answer in answers}) == 1 and len(tried) == 1


def test_a_service_without_a_folder_lists_nothing() -> None:
    with local_service(settings()) as url, SamClient(url) as client:
        assert client.call("GET", "/videos") == {"enabled": False, "complete": True, "videos": []}
        assert client.http.get("/videos/picture", params={"video_path": "a.mp4"}).json()["code"] == "video_path_disabled"


def test_the_sample_clip_is_a_session_like_any_other(client: SamClient) -> None:
    info = client.call("POST", "/sample")
    assert (info["width"], info["height"], info["num_frames"]) == (WIDTH, HEIGHT, FRAMES)
    with client.session(info["session_id"]) as session:
        assert session.state()["video_name"] == "sample.mp4"
        assert jpeg_size(session.frame(0)) == (WIDTH, HEIGHT)


def test_the_sample_clip_is_drawn_once_however_many_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []

    def draw(path: Path) -> Path:
        drawn.append(path)
        return render_clip(path)

    monkeypatch.setattr(library_routes, "render_clip", draw)
    with (local_service(settings(max_sessions=2, sam2_image_size=128), data_dir=tmp_path / "data") as url,
          SamClient(url) as client, ThreadPoolExecutor(8) as clients):
        client.wait_ready()
        answers = list(clients.map(lambda _: client.http.post("/sample").status_code, range(8)))
        assert sorted(answers) == [201, 201, *[429] * 6]
        client.http.delete(f"/sessions/{client.sessions()[0]['session_id']}")
        assert client.http.post("/sample").status_code == 201
        assert client.http.post("/sample").status_code == 429
    assert len(drawn) == 1
    assert not list((tmp_path / "data").glob("upload-*"))
