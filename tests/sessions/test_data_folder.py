"""The data folder: a stranger's is refused and left as it is, ours is closed to others, and only what is ours is swept."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from sam_service.api.app import build_services
from sam_service.cli import main
from sam_service.client import SamClient, VideoSession
from sam_service.commands.exits import Exit
from sam_service.demo_clip import CLICK
from sam_service.errors import StoreUnusable
from sam_service.local import local_service
from sam_service.sessions.folder import MARKER, DataFolder
from sam_service.sessions.store import SqliteStore

from tests.support import settings

ORPHAN = "0123456789abcdef" * 2


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder, with the bytes of files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def opened(path: Path) -> DataFolder:
    """The folder and its database as a service opens them; the database is closed again."""
    folder = DataFolder(path)
    SqliteStore(folder.database, before_creating=folder.keep_sessions).close()
    return folder


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A folder with what the service would have deleted."""
    folder = tmp_path / "photos"
    for name in (f"sessions/{ORPHAN}/IMG_1.jpg", "sessions/yoga/plan.txt", "features/list.txt", "upload-abcd_123",
                 "upload-x/a"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    return folder


def test_a_strangers_folder_is_refused_and_left_as_it_is(strangers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(strangers)
    mode = strangers.stat().st_mode
    assert main(["serve", "--port", "0", "--data-dir", str(strangers)]) == Exit.NOT_STARTED
    told = capsys.readouterr().err
    assert "neither empty nor a data folder" in told and "SAM2_DATA_DIR" in told and "Traceback" not in told
    with pytest.raises(StoreUnusable):
        build_services(settings(sam2_data_dir=strangers))
    assert contents(strangers) == before
    assert strangers.stat().st_mode == mode


@pytest.mark.parametrize("harmless", [[], ["lost+found"], [".env", ".gitkeep"]])
def test_an_empty_folder_is_marked_and_used_again(tmp_path: Path, harmless: list[str]) -> None:
    for name in harmless:
        (tmp_path / name).touch()
    opened(tmp_path)
    assert json.loads((tmp_path / MARKER).read_text())["kept_sessions"] == []
    opened(tmp_path)


def test_a_folder_of_an_earlier_version_without_a_mark_opens(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=2)
        video.add_object(points=[list(CLICK)])
        before = video.state()["prompts"]
    (tmp_path / MARKER).unlink()
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        again = VideoSession(client, video.info)
        assert again.state()["prompts"] == before
        assert len(list(again.propagate())) == 2


def test_a_damaged_mark_and_a_foreign_database_are_refused(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("something else")
    with pytest.raises(StoreUnusable, match=MARKER):
        DataFolder(tmp_path)
    (tmp_path / MARKER).unlink()
    with closing(sqlite3.connect(tmp_path / "sessions.sqlite")) as database:
        database.execute("CREATE TABLE yoga (day TEXT)")
    with pytest.raises(StoreUnusable, match="yoga"):
        opened(tmp_path)
    (tmp_path / "sessions.sqlite").write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreUnusable, match=r"sessions\.sqlite"):
        opened(tmp_path)


def test_what_was_left_half_made_is_swept_and_nothing_else(tmp_path: Path) -> None:
    opened(tmp_path)
    folder = opened(tmp_path)
    swept = [f"sessions/{ORPHAN}/frames/000000.jpg", "upload-abcd_123"]
    kept = [f"sessions/{'f' * 32}/video", "sessions/notes/a.txt", f"sessions/{ORPHAN}.bak/video", "upload-x/a",
            "upload-plan.txt"]
    for name in swept + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    elsewhere = tmp_path / "sessions" / ("e" * 32)
    elsewhere.symlink_to(tmp_path / "sessions" / "notes")
    folder.sweep({"f" * 32})
    assert not [name for name in swept if (tmp_path / name).exists()]
    assert all((tmp_path / name).exists() for name in kept) and elsewhere.is_symlink()


def test_sessions_whose_database_is_missing_are_never_swept(tmp_path: Path) -> None:
    opened(tmp_path)
    real = tmp_path / "sessions" / ORPHAN / "video"
    real.parent.mkdir()
    real.touch()
    (tmp_path / "sessions.sqlite").unlink()
    for start in range(3):  # not at the first start without it, nor at any later one
        opened(tmp_path).sweep(set())
        assert real.exists(), start
    orphan = tmp_path / "sessions" / ("a" * 32)
    orphan.mkdir()
    opened(tmp_path).sweep(set())
    assert real.exists() and not orphan.exists()


def test_a_service_starts_without_its_database_and_deletes_no_session(tmp_path: Path, clip: Path) -> None:
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        client.wait_ready()
        video = client.open_video(clip, max_frames=2)
    (tmp_path / "sessions.sqlite").rename(tmp_path / "moved.sqlite")
    for _ in range(2):
        with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
            assert client.call("GET", "/sessions") == {"sessions": []}
        assert (tmp_path / "sessions" / video.session_id / "frames" / "000001.jpg").exists()
    (tmp_path / "moved.sqlite").replace(tmp_path / "sessions.sqlite")
    with local_service(settings(), data_dir=tmp_path) as url, SamClient(url) as client:
        assert VideoSession(client, video.info).state()["num_frames"] == 2


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes mean nothing there")
def test_data_is_closed_to_other_users(tmp_path: Path, clip: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    with local_service(settings(), data_dir=data) as url, SamClient(url) as client:
        client.wait_ready()
        session = client.open_video(clip, max_frames=1).session_id
        for path in (data, data / "sessions", data / "sessions" / session, *data.glob("sessions.*"), data / MARKER):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
