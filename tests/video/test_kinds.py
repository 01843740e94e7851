"""Every kind of clip: the pictures that it shows, at the times that it says, in the size that it is seen in."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sam_service.errors import InvalidInput, NotAVideo
from sam_service.video.display import HLG, PQ, Turn, square_pixels, tone_map, turn_of
from sam_service.video.extract import Extraction
from sam_service.video.frames import FrameStore
from sam_service.video.limits import VideoLimits
from sam_service.video.manifest import FrameOptions
from sam_service.video.probe import probe

from tests import clips
from tests.video.conftest import Decoded, decoded, quarters

THEORA = [[74.6, 64.5, 18.1], [54.8, 47.5, 63.9], [160.7, 129.6, 21.6], [94.7, 49.6, 202.9]]
PAUSES = (0, 1, 2, 6, 7, 11)  # of `pauses.avi`: which of its pictures are not empty
SAME_PICTURES = ["av1.mp4", "av1.webm", "av1_10.mkv", "wmv.wmv", "png.avi", "raw.avi", "huffyuv.avi", "animation.mov",
                 "raw.h264", "raw.hevc", "anim.gif", "anim.png", "cinepak.avi", "jpeg2000.mov", "cineform.mov", "r210.mov",
                 "mpeg2.mxf", "raw.y4m", "decoding_order.avi", "anamorphic.mp4", "two_streams.mp4", "interlaced.ts",
                 "interlaced_h264.mp4", "interlaced_prores.mov"]


@pytest.fixture(scope="module")
def plain(made: Path) -> Decoded:
    """The pictures as H.264."""
    return decoded(made / "plain.mp4")


@pytest.mark.parametrize("name", SAME_PICTURES)
def test_the_pictures_are_right_whatever_the_codec(made: Path, plain: Decoded, name: str) -> None:
    other = decoded(made / name)
    assert (other.info.width, other.info.height) == (160, 96)
    assert other.info.fps == pytest.approx(25)
    assert len(other.pictures) in (3, 12)
    assert other.times_s == pytest.approx(plain.times_s[: len(other.times_s)], abs=0.001)
    for ours, theirs in zip(other.pictures, plain.pictures, strict=False):
        assert np.abs(quarters(ours) - quarters(theirs)).max() < 9


@pytest.mark.parametrize("name", ["interlaced.ts", "interlaced_h264.mp4", "interlaced_prores.mov"])
def test_two_fields_become_one_picture(made: Path, name: str) -> None:
    """The fields of these pictures differ by 8 of 255 in blue; nothing of that is left between one row and the next."""
    for picture in decoded(made / name).pictures[1:-1]:
        blue = picture[..., 2].astype(float)
        between = (blue[:-2:2] + blue[2::2]) / 2 - blue[1:-1:2]
        assert abs(np.median(between)) < 3


def test_film_in_a_stream_of_30_has_its_24_frames_at_their_times(made: Path, plain: Decoded) -> None:
    clip = decoded(made / "telecined.m2v")
    assert len(clip.pictures) == 12
    assert clip.times_s[::4] == pytest.approx([5 / 29.97 * at for at in range(3)], abs=0.001)
    assert clip.process.fps == pytest.approx(24, rel=0.02)
    for ours, theirs in zip(clip.pictures, plain.pictures, strict=True):
        assert np.abs(quarters(ours) - quarters(theirs)).max() < 9


def test_a_stream_that_turns_to_fields_keeps_its_pictures(made: Path, plain: Decoded, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.ts"
    mixed.write_bytes(b"".join((made / name).read_bytes() for name in ("narrow.ts", "interlaced.ts", "narrow.ts")))
    clip = decoded(mixed)
    assert clip.times_s == pytest.approx([at / 25 for at in range(36)], abs=0.002)
    for ours, theirs in zip(clip.pictures, plain.pictures * 3, strict=True):
        assert np.abs(quarters(ours) - quarters(theirs)).max() < 12


def test_theora() -> None:
    """A file of FFmpeg's test pattern, for want of an encoder; its colours by FFmpeg."""
    clip = decoded(Path(__file__).with_name("theora.ogv"))
    assert [picture.shape for picture in clip.pictures] == [(64, 96, 3)] * 3
    assert clip.times_s == pytest.approx([0, 0.04, 0.08], abs=0.001)
    assert np.abs(quarters(clip.pictures[1]) - THEORA).max() < 5


@pytest.mark.parametrize("name", ["dv.avi", "dv.dv"])
def test_dv_has_square_pixels_afterwards(made: Path, name: str) -> None:
    clip = decoded(made / name)
    assert (clip.info.width, clip.info.height, len(clip.pictures)) == (768, 576, 3)
    assert clip.info.pixel_aspect == pytest.approx(16 / 15)


def test_the_sample_aspect_is_said(made: Path, tmp_path: Path) -> None:
    info = probe(made / "anamorphic.mp4", VideoLimits())
    assert (info.width, info.height) == (160, 96)
    assert info.pixel_aspect == pytest.approx(4 / 3)
    store = FrameStore.create(tmp_path, info, FrameOptions())
    assert FrameStore.open(tmp_path).manifest.pixel_aspect == store.manifest.pixel_aspect == pytest.approx(4 / 3)


@pytest.mark.parametrize(("name", "fps", "times_s"), [
    ("recorded.webm", 11 / 0.611, [0, 0.045, 0.117, 0.161, 0.21, 0.277, 0.327, 0.397, 0.444, 0.516, 0.56, 0.611]),
    ("vfr.mkv", 11 / 4, [*(at / 24 for at in range(8)), 1, 2, 3, 4]),
    ("hourly.mp4", 1 / 3600, [3600 * at for at in range(6)]),
    ("fast.mp4", 2000, [at / 2000 for at in range(12)]),
])
def test_every_frame_has_its_own_time_and_the_rate_is_their_mean(
    made: Path, tmp_path: Path, name: str, fps: float, times_s: list[float]
) -> None:
    path = made / name
    store = FrameStore.create(tmp_path, probe(path, VideoLimits()), FrameOptions())
    work = Extraction(path, store)
    work.start()
    work.join(60)
    assert store.timestamps_s() == pytest.approx(times_s, abs=0.001)
    assert FrameStore.open(tmp_path).manifest.fps == pytest.approx(fps, rel=1e-4)


def test_a_clip_of_hdr10_is_brought_to_ordinary_brightness(made: Path) -> None:
    """Its dark parts keep apart, its white is white; PQ shown as it is would be grey and flat."""
    picture = decoded(made / "pq.mp4").pictures[0]
    assert picture.max() > 240
    assert np.ptp(picture[..., 1]) > 150


def test_a_clip_of_hlg_is_brought_to_ordinary_brightness_and_keeps_its_colours(made: Path) -> None:
    """Expected by the formulas of ITU-R BT.2100 from the same clip without the mark of HLG."""
    for picture, signal in zip(decoded(made / "hlg.mp4").pictures, decoded(made / "bt2020.mp4").pictures, strict=True):
        assert np.abs(quarters(picture) - quarters(hlg_as_shown(signal))).max() < 2


def hlg_as_shown(signal: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """A picture in HLG as a display of 1000 cd/m² shows it, 203 of these as white, what is over 0.6 of white bent; 0 to 255."""
    part = signal / 255
    scene = np.where(part <= 0.5, part**2 / 3, (np.exp((part - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    nits = 1000 * (scene @ (0.2627, 0.678, 0.0593))[..., None] ** 0.2 * scene
    strongest = nits.max(-1, keepdims=True) / 203
    bent = np.where(strongest < 0.6, strongest, 1 - 0.4 * np.exp(-(strongest - 0.6) / 0.4))
    return np.asarray(255 * (nits / 203 / np.maximum(strongest, 1e-9) * bent) ** (1 / 2.2))


def test_one_luminance_is_one_grey_in_both_kinds_of_hdr() -> None:
    """BT.2408: 203 cd/m² is 75 % of HLG's signal and 58 % of PQ's; black and the brightest stay what they are.

    4 levels apart at most, since a step of 8-bit PQ is as much there.
    """
    for pq, hlg in ((0, 0), (0.58, 0.75), (1, 1)):
        greys = [np.asarray(Image.new("RGB", (1, 1), (round(255 * signal),) * 3).filter(tone_map(transfer)))
                 for transfer, signal in ((PQ, pq), (HLG, hlg))]
        assert np.abs(greys[0].astype(int) - greys[1]).max() <= 4
        assert np.ptp(greys[1]) <= 1


def test_empty_pictures_of_an_avi_are_no_missing_ones(made: Path) -> None:
    clip = decoded(made / "pauses.avi")
    assert clip.times_s == pytest.approx([at / 25 for at in PAUSES], abs=0.001)
    assert (clip.info.num_frames, clip.process.missing_frames) == (len(PAUSES), 0)


def test_an_encrypted_video_is_refused(made: Path) -> None:
    with pytest.raises(NotAVideo, match="encrypted") as caught:
        probe(made / "encrypted.mp4", VideoLimits())
    assert caught.value.code == "encrypted"


@pytest.mark.parametrize(("name", "profile", "compatible"), [
    (b"dvcC", 5, 0), (b"dvvC", 10, 0), (b"dvcC", 7, 6), (b"dvvC", 8, 1), (b"dvvC", 8, 4), (b"dvvC", 10, 1)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_dolby_vision_without_ordinary_pictures_is_refused(made: Path, tmp_path: Path, suffix: str, name: bytes, profile: int,
                                                           compatible: int) -> None:
    description = bytes((1, 0, profile << 1, 0x0D, compatible << 4))
    path = tmp_path / f"dolby.{suffix}"
    if suffix == "mp4":
        data = (made / "anamorphic.mp4").read_bytes()
        at = data.index(b"pasp")
        path.write_bytes(data[:at] + name + description + data[at + 9:])
    else:  # an element with its name, and behind it one with the description, among those that no reader knows
        data = (made / "av1_10.mkv").read_bytes()
        known = b"\x41\xe7\x84" + name + b"\x41\xed\x85" + description
        at = data.index(b"\x16\x54\xae\x6b")
        path.write_bytes(data[:at] + b"\xec" + bytes([0x80 | len(known)]) + known + data[at:])
    if (profile, compatible) in ((5, 0), (10, 0)):
        with pytest.raises(NotAVideo, match=f"Dolby Vision of profile {profile}.*libplacebo") as caught:
            probe(path, VideoLimits())
        assert caught.value.code == "codec_not_accepted"
    else:
        assert probe(path, VideoLimits()).num_frames == 12


def test_a_sample_aspect_that_changes_is_said(made: Path, tmp_path: Path) -> None:
    joined = tmp_path / "joined.ts"
    joined.write_bytes((made / "narrow.ts").read_bytes() + (made / "wide.ts").read_bytes())
    clip = decoded(joined)
    assert [picture.shape for picture in clip.pictures] == [(96, 160, 3)] * 24
    assert clip.process.size_changed
    assert not decoded(made / "wide.ts").process.size_changed


def test_pictures_that_turn_in_mid_stream_are_said(made: Path, tmp_path: Path) -> None:
    joined = tmp_path / "joined.ts"
    joined.write_bytes((made / "upright.ts").read_bytes() + (made / "turned.ts").read_bytes())
    clip = decoded(joined)
    assert [picture.shape for picture in clip.pictures] == [(96, 160, 3)] * 24
    assert clip.process.size_changed
    turned = decoded(made / "turned.ts")
    assert ([picture.shape for picture in turned.pictures], turned.process.size_changed) == ([(160, 96, 3)] * 12, False)


def test_what_the_codec_says_at_a_keyframe_holds_for_the_pictures_after_it(made: Path) -> None:
    """H.264 says how its pictures lie with the first of a sequence only."""
    turned, upright = decoded(made / "turned.ts"), decoded(made / "upright.ts")
    for shown, stored in zip(turned.pictures, upright.pictures, strict=True):
        assert np.abs(shown.astype(int) - np.rot90(stored)).mean() < 5


def test_an_mp4_that_breaks_off_before_its_index_says_so(made: Path, tmp_path: Path) -> None:
    data = (made / "plain.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(NotAVideo, match="no index") as caught:
        probe(cut, VideoLimits())
    assert caught.value.code == "no_frames"


def test_cover_art_alone_is_no_video(made: Path) -> None:
    with pytest.raises(NotAVideo, match="cover"):
        probe(made / "cover.m4a", VideoLimits())


@pytest.mark.parametrize("box", [b"free", b"skip", b"styp", b"wide"])
def test_an_mp4_may_begin_with_other_boxes(made: Path, tmp_path: Path, plain: Decoded, box: bytes) -> None:
    data = bytearray((made / "plain.mp4").read_bytes())
    table = data.index(b"stco") + 8  # the places of the pictures, all of which move
    (count,) = struct.unpack_from(">I", data, table)
    places = struct.unpack_from(f">{count}I", data, table + 4)
    struct.pack_into(f">{count}I", data, table + 4, *(place + 16 for place in places))
    path = tmp_path / "clip.mp4"
    path.write_bytes(struct.pack(">I4s8s", 16, box, b"msdh") + data)
    assert np.array_equal(decoded(path).pictures[0], plain.pictures[0])


def test_a_transport_stream_may_begin_in_the_middle_of_a_packet(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.ts"
    path.write_bytes(b"\xff" * 77 + (made / "interlaced.ts").read_bytes())
    assert len(decoded(path).pictures) == 12


def test_a_size_that_changes_gives_one_size_and_is_said(tmp_path: Path) -> None:
    first = clips.write_video(tmp_path / "a.ts", 6, 160, 120)
    second = clips.write_video(tmp_path / "b.ts", 6, 96, 160)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    clip = decoded(joined)
    assert [picture.shape for picture in clip.pictures] == [(120, 160, 3)] * 12
    assert clip.process.size_changed
    assert not decoded(first).process.size_changed
    assert clip.times_s == pytest.approx([at / 25 for at in range(12)], abs=0.002)


MATRICES = {
    "upright": (1, 0, 0, 1), "turned right": (0, 1, -1, 0), "upside down": (-1, 0, 0, -1), "turned left": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1), "mirrored up and down": (1, 0, 0, -1), "mirrored, turned right": (0, 1, 1, 0),
    "mirrored, turned left": (0, -1, -1, 0),
}


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES.keys())
def test_all_eight_orientations(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    """(x, y) of the stored picture is shown at (a x + c y, b x + d y), moved into the frame."""
    source = clips.write_video(tmp_path / "clip.mp4", frames=2)
    data = bytearray(source.read_bytes())
    a, b, c, d = matrix
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    struct.pack_into(">9i", data, at, a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data)

    stored, shown = decoded(source).pictures[0], decoded(turned).pictures[0]

    expected = np.empty_like(stored if a else stored.transpose(1, 0, 2))
    height, width = stored.shape[:2]
    y, x = np.mgrid[:height, :width]
    to_x, to_y = a * x + c * y, b * x + d * y
    expected[to_y - to_y.min(), to_x - to_x.min()] = stored
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 4


def test_nonsense_says_nothing_about_the_display() -> None:
    assert turn_of(b"short") == Turn()
    assert square_pixels(320, 180, Fraction(1, 1000)) == (320, 180)
    assert square_pixels(320, 180, None) == (320, 180)


def test_an_animated_webp_is_a_clip_and_a_still_one_is_none(tmp_path: Path) -> None:
    images = [Image.fromarray(clips.picture(index)[..., ::-1]) for index in range(5)]
    images[0].save(tmp_path / "anim.webp", save_all=True, append_images=images[1:], duration=[100, 50, 50, 200, 100])
    clip = decoded(tmp_path / "anim.webp")
    assert [clips.number_in(picture) for picture in clip.pictures] == [0, 1, 2, 3, 4]
    assert clip.times_s == pytest.approx([0, 0.1, 0.15, 0.2, 0.4])
    images[0].save(tmp_path / "still.webp")
    with pytest.raises(NotAVideo):
        probe(tmp_path / "still.webp", VideoLimits())


@pytest.mark.parametrize("size", [(4, 64), (64, 2), (3, 3)])
def test_pictures_of_a_few_pixels_are_refused_with_the_limit(tmp_path: Path, size: tuple[int, int]) -> None:
    path = clips.write_avi(tmp_path / "tiny.avi", clips.jpeg_frames(2, *size), *size)
    with pytest.raises(NotAVideo, match="at least 8") as caught:
        FrameStore.create(tmp_path, probe(path, VideoLimits()), FrameOptions())
    assert caught.value.code == "picture_too_small"


def test_a_video_takes_no_rate(made: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        decoded(made / "plain.mp4", fps=25)
    assert caught.value.field == "fps"
