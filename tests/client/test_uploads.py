"""What a clip may be uploaded from: a file, a folder of pictures, a list of them."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import pytest
from sam_service.client import AsyncSamClient, InvalidArgument, SamClient
from sam_service.client.uploads import opened
from sam_service.demo_clip import CLICK

from tests.test_cli import command


@pytest.fixture(scope="module")
def pictures(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 11 frames of the ball clip as JPEG and PNG, numbered without leading zeros; and a text that is no picture."""
    folder = tmp_path_factory.mktemp("frames")
    capture = cv2.VideoCapture(str(clip))
    for number in range(11):
        read, picture = capture.read()
        assert read
        cv2.imwrite(str(folder / f"img{number}.{'png' if number == 10 else 'JPG'}"), picture)
    (folder / "notes.txt").write_text("not a picture")
    return folder


def names(file: IO[bytes]) -> list[str]:
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_a_folder_is_uploaded_as_an_archive_of_its_pictures(pictures: Path) -> None:
    with opened(pictures) as (name, file):
        assert name == f"{pictures.name}.zip"
        assert set(names(file)) == {f"img{number}.JPG" for number in range(10)} | {"img10.png"}


def test_a_list_keeps_its_order_and_may_repeat_a_picture(pictures: Path) -> None:
    chosen: list[Path | str] = [pictures / "img3.JPG", str(pictures / "img1.JPG"), pictures / "img3.JPG"]
    with opened(chosen) as (name, file):
        assert name == f"{pictures.name}.zip"
        assert names(file) == ["000000_img3.JPG", "000001_img1.JPG", "000002_img3.JPG"]


def test_files_are_uploaded_as_they_are(clip: Path) -> None:
    with opened(str(clip)) as (name, file):
        assert (name, file.read()) == ("ball.mp4", clip.read_bytes())
    with opened(io.BytesIO(b"x")) as (name, file):
        assert (name, file.read()) == ("video", b"x")


def test_no_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="^video is the folder"), opened(tmp_path):
        pass
    with pytest.raises(InvalidArgument, match="^video is an empty list"), opened([]):
        pass
    with pytest.raises(FileNotFoundError), opened([tmp_path / "missing.png"]):
        pass


def test_a_picture_that_the_service_would_not_take_is_named_and_not_left_out(pictures: Path, tmp_path: Path) -> None:
    shutil.copyfile(pictures / "img10.png", tmp_path / "0.png")
    (tmp_path / "1.HEIC").write_bytes(b"a phone's picture")
    with pytest.raises(InvalidArgument, match=r"1\.HEIC is of a kind that is not accepted"), opened(tmp_path):
        pass


def test_pictures_become_a_clip_in_natural_order(client: SamClient, service: str, pictures: Path) -> None:
    with client.initialize(pictures, fps=np.float64(12.5)) as video:
        frames = [video.frame(index) for index in range(11)]
        assert len(set(frames)) == 11
        assert (video.width, video.height, video.state()["num_frames"]) == (640, 360, 11)
        assert video.state()["fps"] == 12.5
        clicked = video.add_object(points=[CLICK])
        assert clicked.area > 2000
        last = list(video.propagate())[-1]
        assert last.index == 10
        assert last.timestamp_s == pytest.approx(10 / 12.5, abs=1e-4)
    backwards = [pictures / f"img{number}.JPG" for number in (9, 5, 0)]
    assert asyncio.run(_frames(service, backwards)) == [frames[number] for number in (9, 5, 0)]


async def _frames(service: str, paths: list[Path]) -> list[bytes]:
    async with AsyncSamClient(service) as client, await client.initialize(paths) as video:
        return [await video.frame(index) for index in range(len(paths))]


def test_the_command_line_takes_a_folder(pictures: Path, service: str, tmp_path: Path) -> None:
    done = command("segment", pictures, "--fps", "10", "--point", "150,200", "--url", service, "--json", "--export", "png",
                   cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    times = [frame["timestamp_s"] for frame in json.loads(done.stdout)["frames"]]
    assert times == pytest.approx([index / 10 for index in range(11)], abs=1e-4)
    wrong = command("segment", pictures, "--fps", "0", "--point", "150,200", cwd=tmp_path)
    assert (wrong.returncode, "29.97" in wrong.stderr) == (2, True)
