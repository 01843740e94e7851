"""Every case of the table against one real service: the right answer, nothing let out, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sam_service.client import SamClient
from sam_service.local import local_service

from tests import clips
from tests.hostile.cases import CASES, MAX_UPLOAD_MB, Case, Target, answer_of
from tests.support import settings

LEAKS = ("0x", "moov", "Traceback", "/proc", "/dev/fd", "site-packages", "root:")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("videos", "scratch", "data"):
        (folder / name).mkdir()
    clip = clips.write_video(folder / "videos" / "clip.mp4")
    options = settings(sam2_video_dir=folder / "videos", max_upload_mb=MAX_UPLOAD_MB)
    with local_service(options, data_dir=folder / "data") as url, SamClient(url) as client:
        client.wait_ready()
        session = client.open_video_on_server(clip.name)
        yield Target(client, folder / "videos", folder / "scratch", session.session_id)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_request(target: Target, case: Case) -> None:
    answer = answer_of(target, case.send(target))
    assert answer.status in case.statuses, answer
    if case.code is not None:
        assert answer.code == case.code, answer
    assert not [leak for leak in (*LEAKS, str(target.scratch.parent)) if leak in answer.text]
    assert target.client.http.get("/health").status_code == 200

    for session_id in target.opened:
        target.client.http.delete(f"/sessions/{session_id}")
    target.opened.clear()
    data = target.scratch.parent / "data"
    assert [path.name for path in (data / "sessions").iterdir()] == [target.session_id]
    assert not list(data.glob("upload-*"))
    assert not list(Path(target.scratch.parent).rglob("attached.txt"))


def test_the_session_beside_them_is_as_it_was(target: Target) -> None:
    state = target.client.http.get(f"/sessions/{target.session_id}").json()
    assert (state["objects"], state["num_frames"]) == ([], 12)
