"""Folders and archives of pictures as clips, and what a stranger could hide in them."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sam_service.errors import InvalidInput, NotAVideo, ServiceError, TooLarge
from sam_service.video.extract import Extraction
from sam_service.video.frames import FrameStore
from sam_service.video.limits import VideoLimits
from sam_service.video.manifest import FrameOptions
from sam_service.video.naming import frames_of
from sam_service.video.probe import probe

from tests import clips
from tests.hostile.files import png
from tests.video.conftest import decoded

FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF"}
NAMES = [f"frame{index}" for index in range(11)]  # frame10 comes after frame9


def picture(index: int, suffix: str = ".png", size: tuple[int, int] = (160, 120)) -> bytes:
    """A picture file with the number `index` painted in it."""
    file = io.BytesIO()
    Image.fromarray(clips.picture(index, *size)[..., ::-1]).save(file, FORMATS[suffix])
    return file.getvalue()


def archive(path: Path, members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of these members."""
    with zipfile.ZipFile(path, "w", method) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return path


def refusal(path: Path, limits: VideoLimits | None = None) -> ServiceError:
    """What opening a collection raises."""
    with pytest.raises(ServiceError) as caught:
        probe(path, limits or VideoLimits())
    return caught.value


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_a_folder_is_a_clip_in_natural_order(tmp_path: Path, suffix: str) -> None:
    for index, name in enumerate(NAMES):
        (tmp_path / f"{name}{suffix}").write_bytes(picture(index, suffix))
    (tmp_path / ".hidden.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    clip = decoded(tmp_path)
    assert [clips.number_in(image) for image in clip.pictures] == list(range(11))
    assert clip.times_s == pytest.approx([index / 24 for index in range(11)])
    assert (clip.info.fps, clip.info.num_frames) == (24, 11)


def test_an_archive_is_a_clip_with_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    members = {f"clip/{name}.JPG": picture(index, ".jpg") for index, name in enumerate(NAMES)}
    members |= {"__MACOSX/clip/._frame0.JPG": b"no picture", "clip/.DS_Store": b"nor this", "clip/read.me": b"nor this"}
    clip = decoded(archive(tmp_path / "upload", members), fps=12.5)
    assert [clips.number_in(image) for image in clip.pictures] == list(range(11))
    assert clip.times_s == pytest.approx([index / 12.5 for index in range(11)])


def test_an_interrupted_extraction_keeps_the_rate(tmp_path: Path) -> None:
    path = archive(tmp_path / "clip.zip", {f"{name}.png": picture(index) for index, name in enumerate(NAMES)})
    options = FrameOptions(fps=10, frame_stride=2)
    store = FrameStore.create(tmp_path / "frames", probe(path, VideoLimits()), options)
    work = Extraction(path, store)
    work.start()
    work.join(60)
    (tmp_path / "frames" / "000004.jpg").unlink()
    again = FrameStore.open(tmp_path / "frames")
    work = Extraction(path, again)
    work.start()
    work.join(60)
    assert again.complete
    assert again.timestamps_s() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert again.manifest.fps == 10
    assert [clips.number_in(again.read(index)) for index in range(6)] == [0, 2, 4, 6, 8, 10]


MODES = {
    "8-bit grey": lambda grey: Image.fromarray(grey),
    "16-bit grey": lambda grey: Image.fromarray(grey.astype(np.uint16) * 257),
    "grey and alpha": lambda grey: Image.merge("LA", (Image.fromarray(grey), Image.new("L", grey.shape[::-1], 255))),
    "palette": lambda grey: Image.fromarray(grey).convert("RGB").quantize(64),
    "colour and alpha": lambda grey: Image.fromarray(grey).convert("RGBA"),
}


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_depth_look_the_same(tmp_path: Path, mode: str) -> None:
    grey = clips.picture(5)[..., 1]
    for index in range(2):
        MODES[mode](grey).save(tmp_path / f"{index}.png")
    image = decoded(tmp_path).pictures[1]
    assert np.abs(image.mean(-1) - grey).mean() < 6


@pytest.mark.parametrize(("bits", "suffix"), [(8, "png"), (10, "tif"), (12, "png"), (14, "tif")])
def test_grey_of_fewer_bits_than_16_is_not_black(tmp_path: Path, bits: int, suffix: str) -> None:
    grey = clips.picture(5)[..., 1]
    deep = grey.astype(np.uint16) << (bits - 8)
    for index, values in enumerate((deep // 4, deep, deep)):
        Image.fromarray(values).save(tmp_path / f"{index}.{suffix}", compression="tiff_lzw" if suffix == "tif" else None)
    clip = decoded(tmp_path)
    assert np.abs(clip.pictures[0].mean(-1) - grey // 4).mean() < 6, "one scale for the whole clip"
    assert np.abs(clip.pictures[2].mean(-1) - grey).mean() < 6


def test_grey_deeper_than_the_pictures_looked_into_is_named(tmp_path: Path) -> None:
    for index in range(20):
        Image.fromarray(np.full((20, 20), 60_000 if index == 19 else 4000, np.uint16)).save(tmp_path / f"{index}.png")
    with pytest.raises(InvalidInput, match=r"19\.png.*60000.*12 bits") as caught:
        decoded(tmp_path)
    assert caught.value.code == "picture_depth"


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_tiff_whose_zero_is_white(tmp_path: Path, bits: int) -> None:
    grey = clips.picture(5)[..., 1]
    deep = grey if bits == 8 else grey.astype(np.uint16) << (bits - 8)
    for index in range(2):
        Image.fromarray(deep).save(tmp_path / f"{index}.tif")
        data = (tmp_path / f"{index}.tif").read_bytes()
        said = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
        assert data.count(said) == 1
        (tmp_path / f"{index}.tif").write_bytes(data.replace(said, struct.pack("<HHIHH", 262, 3, 1, 0, 0)))
    image = decoded(tmp_path).pictures[1]
    assert np.abs(image.mean(-1) - (255 - grey)).mean() < 6


def test_floating_point_and_pages_are_refused(tmp_path: Path) -> None:
    (tmp_path / "float").mkdir()
    Image.fromarray(np.ones((20, 20), np.float32)).save(tmp_path / "float" / "0.tif")
    assert refusal(tmp_path / "float").code == "picture_depth"
    (tmp_path / "pages").mkdir()
    page = Image.new("L", (20, 20))
    page.save(tmp_path / "pages" / "0.tif", save_all=True, append_images=[page])
    assert refusal(tmp_path / "pages").code == "several_pages"


@pytest.mark.parametrize("names", [["-10", "-2", "-1", "0", "1", "2", "10"], ["t_-2", "t_-1", "t_0", "t_003", "t_20"],
                                   ["run-1-2", "run-1-10", "run-2-1"], ["shot -1", "shot -2", "shot -10"],
                                   ["-001", "-002", "-010"], ["a -1 x -1", "a -1 x 0", "a -2 x -3"],
                                   ["(-2) -1", "(-2) -2", "(3) -1"]])
def test_numbers_may_be_negative_or_padded_and_a_hyphen_is_none(names: list[str]) -> None:
    files = [f"{name}.png" for name in names]
    assert frames_of(sorted(files)) == files


def test_a_picture_that_would_be_left_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(picture(0))
    (tmp_path / "1.HEIC").write_bytes(b"a phone's picture")
    error = refusal(tmp_path)
    assert (error.code, "1.HEIC" in error.message, "ffmpeg" in error.message) == ("unknown_pictures", True, True)
    assert refusal(archive(tmp_path / "a.zip", {"a/0.exr": b""})).code == "unknown_pictures"


def test_a_mask_under_its_frames_name_is_no_frame(tmp_path: Path) -> None:
    (tmp_path / "00000.jpg").write_bytes(picture(0, ".jpg"))
    (tmp_path / "00000.png").write_bytes(picture(1))
    error = refusal(tmp_path)
    assert error.code == "two_of_a_name"
    assert "00000.jpg and 00000.png" in error.message


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_pictures_lie_as_their_exif_says(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(clips.picture(5)[..., ::-1])
    described = Image.Exif()
    described[0x0112] = 6
    image.save(tmp_path / f"0{suffix}", exif=described, quality=95)
    shown = decoded(tmp_path).pictures[0]
    assert shown.shape == (160, 120, 3)
    assert np.abs(shown.astype(int) - np.rot90(np.asarray(image), -1)).mean() < 5


def test_all_eight_orientations_of_exif(tmp_path: Path) -> None:
    stored = clips.picture(5, 120, 120)[..., ::-1]
    shown = {1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.transpose(1, 0, 2),
             6: np.rot90(stored, -1), 7: stored[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(stored)}
    for orientation in shown:
        described = Image.Exif()
        described[0x0112] = orientation
        Image.fromarray(stored).save(tmp_path / f"{orientation}.jpg", exif=described, quality=95)
    for picture, expected in zip(decoded(tmp_path).pictures, shown.values(), strict=True):
        assert np.abs(picture.astype(int) - expected).mean() < 5


def test_pictures_of_another_size_are_named(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(picture(0))
    (tmp_path / "1.png").write_bytes(picture(1))
    (tmp_path / "2.png").write_bytes(picture(2, size=(80, 60)))
    error = refusal(tmp_path)
    assert isinstance(error, InvalidInput)
    assert (error.code, "2.png has 80 x 60" in error.message, "0.png" in error.message) == ("sizes_differ", True, True)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(picture(0))
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    error = refusal(tmp_path)
    assert (type(error), error.code) == (NotAVideo, "picture_damaged")
    assert "1.png" in error.message


def test_a_picture_that_breaks_off_ends_the_clip_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(picture(0))
    (tmp_path / "1.png").write_bytes(picture(1)[:2000])
    with pytest.raises(NotAVideo, match="1.png"):
        decoded(tmp_path)


def _with_entry(path: Path, name: str, **fields: int) -> Path:
    with zipfile.ZipFile(path, "w") as target:
        entry = zipfile.ZipInfo(name)
        for field, value in fields.items():
            setattr(entry, field, value)
        target.writestr(entry, picture(0))
    return path


def test_what_an_archive_could_hide_is_refused(tmp_path: Path) -> None:
    unsafe = [
        _with_entry(tmp_path / "climbs.zip", "../0.png"),
        _with_entry(tmp_path / "absolute.zip", "/0.png"),
        _with_entry(tmp_path / "backslash.zip", "..\\0.png"),
        _with_entry(tmp_path / "link.zip", "0.png", external_attr=0o120777 << 16),
        archive(tmp_path / "bz2.zip", {"0.png": picture(0)}, method=zipfile.ZIP_BZIP2),
    ]
    for path in unsafe:
        error = refusal(path)
        assert (type(error), error.code) == (InvalidInput, "unsafe_archive"), path.name
    error = refusal(archive(tmp_path / "folders.zip", {"a/0.png": picture(0), "b/0.png": picture(1)}))
    assert error.code == "several_folders"
    assert "a" in error.message


def test_an_archive_without_pictures_is_no_video(tmp_path: Path) -> None:
    assert isinstance(refusal(archive(tmp_path / "text.zip", {"a.txt": b"text", "b.mp4": b"video"})), NotAVideo)
    assert isinstance(refusal(archive(tmp_path / "empty.zip", {})), NotAVideo)
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    assert refusal(tmp_path / "cut.zip").code == "not_a_video"


def test_bombs_are_told_by_their_headers(tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "0.png").write_bytes(png(60_000, 60_000, rows=2))
    assert (type(error := refusal(tmp_path / "wide")), error.code) == (TooLarge, "too_many_pixels")
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        target.writestr("0.png", bytes(257 << 20))
    assert bomb.stat().st_size < 4 << 20
    assert (type(error := refusal(bomb)), error.code) == (TooLarge, "file_too_large")
    many = archive(tmp_path / "many.zip", {f"{index}.png": b"" for index in range(50)})
    assert (type(error := refusal(many, VideoLimits(max_source_frames=49))), error.code) == (TooLarge, "too_many_frames")
    lying = bytearray(archive(tmp_path / "lying.zip", {"0.png": picture(0)}).read_bytes())
    lying[lying.rindex(zlib.crc32(picture(0)).to_bytes(4, "little"))] ^= 1
    (tmp_path / "lying.zip").write_bytes(lying)
    with pytest.raises(ServiceError):
        decoded(tmp_path / "lying.zip")


def test_no_link_in_a_folder_is_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "clip", tmp_path / "outside.png"
    folder.mkdir()
    outside.write_bytes(picture(1))
    (folder / "0.png").write_bytes(picture(0))
    (folder / "1.png").symlink_to(outside)
    error = refusal(folder)
    assert (error.code, "1.png" in error.message) == ("picture_damaged", True)
    (folder / "1.png").unlink()
    os.mkfifo(folder / "1.png")
    assert refusal(folder).code == "picture_damaged"


def test_pictures_are_decoded_in_a_process_that_sees_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(picture(0))
    clip = decoded(tmp_path)
    if os.uname().sysname == "Linux":
        assert {"system calls", "memory"} <= set(clip.process.guards)
