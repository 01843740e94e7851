"""Exports through the client and the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from sam_service.client import AsyncSamClient, InvalidRequest, VideoSession
from sam_service.demo_clip import CLICK

from tests.test_cli import SEGMENT, command


def test_an_export_is_a_file_with_the_name_of_the_service_or_ones_own(video: VideoSession, tmp_path: Path) -> None:
    video.add_object(points=[CLICK])
    list(video.propagate(end_frame=3))
    seen: list[int] = []
    named = video.export("png", tmp_path, progress=lambda done, _: seen.append(done))
    assert (named.name, named.stat().st_size) == ("ball-png.zip", seen[-1])
    own = video.export("coco", tmp_path / "mine.json", object_ids=[1], start_frame=1, end_frame=2)
    assert len(json.loads(own.read_text())["annotations"]) == 2


def test_an_export_that_is_refused_leaves_no_file(video: VideoSession, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        video.export("nothing", tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_async_client_exports_as_well(video: VideoSession, service: str, tmp_path: Path) -> None:
    video.add_object(points=[CLICK])
    assert asyncio.run(_export(service, video.session_id, tmp_path)).name == "ball-coco.json"


async def _export(service: str, session_id: str, folder: Path) -> Path:
    async with AsyncSamClient(service) as client, await client.session(session_id) as session:
        return await session.export("coco", folder)


def test_the_command_line_writes_what_export_names(tmp_path: Path, clip: Path, service: str) -> None:
    done = command(*SEGMENT, clip, "--url", service, "--max-frames", "4", "--export", "coco", "--export", "png", "--json",
                   cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = {item["kind"]: tmp_path / item["path"] for item in json.loads(done.stdout)["files"]}
    assert set(files) == {"masks", "coco", "png"}
    assert all(path.exists() for path in files.values())
