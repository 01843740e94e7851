"""`python -m tests.video.made FOLDER`: small clips of every kind, by PyAV, in a process without OpenCV.

Each shows the same twelve pictures of 160 x 96: a gradient that grows brighter with time, a bright square in its upper left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

WIDTH, HEIGHT, FRAMES = 160, 96, 12


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Picture `index`, uint8 (H, W, 3) RGB. Its four quarters have colours of their own."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(40, 140, width)[None, :]
    image[..., 1] = np.linspace(60, 160, height)[:, None]
    image[..., 2] = 60 + 8 * index
    image[height // 8 : height // 3, width // 8 : width // 3] = 220
    return image


def write(path: Path, codec: str, *, form: str | None = None, pixels: str = "yuv420p", times: Sequence[Fraction] | None = None,
          size: tuple[int, int] = (WIDTH, HEIGHT), aspect: Fraction | None = None, frames: int = FRAMES, rate: int = 25,
          interlaced: bool = False, ticks: int = 10_000, options: dict[str, str] | None = None,
          container: dict[str, str] | None = None,
          prepare: Callable[[VideoStream], None] | None = None, tag: Callable[[VideoFrame], None] | None = None) -> None:
    """Encode the pictures. times: seconds of each; evenly spaced if absent."""
    with av.open(str(path), "w", format=form, container_options=container or {}) as target:
        stream = target.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if times is not None:
            stream.codec_context.time_base = Fraction(1, ticks)
        if prepare is not None:
            prepare(stream)
        for index in range(frames):
            image = picture(index, *size)
            if interlaced:  # the second field is of the next moment
                image[1::2] = picture(index + 1, *size)[1::2]
            frame = VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = index, Fraction(1, rate)
            if times is not None:
                frame.pts, frame.time_base = round(times[index] * ticks), Fraction(1, ticks)
            if tag is not None:
                tag(frame)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


def two_streams(path: Path) -> None:
    """A small stream first, then the one that counts."""
    with av.open(str(path), "w") as target:
        streams = []
        for width, height in ((80, 48), (WIDTH, HEIGHT)):
            stream = target.add_stream("mpeg4", rate=25, options={"b": "5M"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for index in range(FRAMES):
            for stream in streams:
                frame = VideoFrame.from_ndarray(picture(index, stream.width, stream.height), format="rgb24")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                target.mux(stream.encode(frame))
        for stream in streams:
            target.mux(stream.encode(None))


def cover_only(path: Path) -> None:
    """Sound, and a picture of its cover."""
    with av.open(str(path), "w", format="mp4") as target:
        sound = target.add_stream("aac", rate=44100)
        cover = target.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        quiet = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        quiet.rate = 44100
        for at in range(20):
            quiet.pts = at * 1024
            target.mux(sound.encode(quiet))
        frame = VideoFrame.from_ndarray(picture(0), format="rgb24").reformat(format="yuvj420p")
        frame.pts, frame.time_base = 0, Fraction(1)
        target.mux(cover.encode(frame))
        target.mux(cover.encode(None))
        target.mux(sound.encode(None))


def telecined(path: Path) -> None:
    """Film of 24 frames a second in a stream of 30: every second picture shows a field of its own twice (3:2 by flags)."""
    write(path, "mpeg2video", form="mpeg2video", options={"b": "5M", "bf": "0"})
    data, at, pictures = bytearray(path.read_bytes()), 0, 0
    while (at := data.find(b"\0\0\1", at)) >= 0:
        kind, extension = data[at + 3], data[at + 4] >> 4
        if kind == 0xB3:
            data[at + 7] = data[at + 7] & 0xF0 | 4  # 30000/1001 frames a second
        elif kind == 0xB5 and extension == 1:
            data[at + 5] &= ~0x08  # a sequence that may have fields
        elif kind == 0xB5 and extension == 8:
            top_first, repeated = ((1, 1), (0, 0), (0, 1), (1, 0))[pictures % 4]
            data[at + 7] = data[at + 7] & 0x7D | top_first << 7 | repeated << 1
            data[at + 8] |= 0x80  # the picture itself is progressive
            pictures += 1
        at += 3
    path.write_bytes(data)


def turned(source: Path, path: Path) -> None:
    """A copy in which the pictures themselves say that they are to be shown turned by a quarter."""
    with av.open(str(source)) as reading, av.open(str(path), "w") as target:
        stream = reading.streams.video[0]
        turning = BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", stream)
        copy = target.add_stream_from_template(stream)
        for packet in reading.demux(stream):
            for marked in turning.filter(packet if packet.size else None):
                marked.stream = copy
                target.mux(marked)


def hdr(path: Path, transfer: int, name: str) -> None:
    """A clip in BT.2020 with a transfer function, by its number and x265's name of it."""

    def tag(target: VideoFrame | VideoCodecContext) -> None:
        target.color_trc, target.color_primaries, target.colorspace = transfer, 9, 9

    write(path, "libx265", pixels="yuv420p10le", tag=tag, prepare=lambda stream: tag(stream.codec_context), options={
        "preset": "ultrafast", "crf": "8",
        "x265-params": f"log-level=none:transfer={name}:colorprim=bt2020:colormatrix=bt2020nc"})


MILLISECONDS = [Fraction(at, 1000) for at in (0, 45, 117, 161, 210, 277, 327, 397, 444, 516, 560, 611)]
PAUSES = (0, 1, 2, 6, 7, 11)  # an AVI has empty pictures in between
X264 = {"preset": "ultrafast", "qp": "18"}
CLIPS: dict[str, Callable[[Path], None]] = {
    "plain.mp4": lambda path: write(path, "libx264", options=X264),
    "av1.mp4": lambda path: write(path, "libsvtav1", options={"preset": "12", "crf": "20"}),
    "av1_10.mkv": lambda path: write(path, "libsvtav1", pixels="yuv420p10le", options={"preset": "12", "crf": "20"}),
    "interlaced.ts": lambda path: write(path, "mpeg2video", interlaced=True,
                                        options={"flags": "+ildct+ilme", "b": "5M", "top": "1"}),
    "interlaced_h264.mp4": lambda path: write(path, "libx264", interlaced=True, options={**X264, "x264-params": "tff=1"}),
    "interlaced_prores.mov": lambda path: write(path, "prores_ks", pixels="yuv422p10le", interlaced=True,
                                                options={"flags": "+ildct"}),
    "recorded.webm": lambda path: write(path, "libvpx", times=MILLISECONDS, rate=1000,
                                        options={"deadline": "realtime", "crf": "4", "b": "5M", "auto-alt-ref": "0"}),
    "vfr.mkv": lambda path: write(path, "libx264", options=X264, times=[
        Fraction(at, 24) if at < 8 else Fraction(at - 7) for at in range(FRAMES)]),
    "hourly.mp4": lambda path: write(path, "libx264", times=[Fraction(3600 * at) for at in range(6)], frames=6, options=X264),
    "fast.mp4": lambda path: write(path, "libx264", rate=2000, options=X264),
    "anamorphic.mp4": lambda path: write(path, "libx264", size=(120, 96), aspect=Fraction(4, 3), options=X264),
    "wmv.wmv": lambda path: write(path, "wmv2", options={"b": "5M"}),
    "png.avi": lambda path: write(path, "png", pixels="rgb24"),
    "raw.avi": lambda path: write(path, "rawvideo", pixels="bgr24", frames=3),
    "huffyuv.avi": lambda path: write(path, "huffyuv", pixels="yuv422p"),
    "animation.mov": lambda path: write(path, "qtrle", pixels="rgb24"),
    "dv.avi": lambda path: write(path, "dvvideo", size=(720, 576), frames=3),
    "dv.dv": lambda path: write(path, "dvvideo", form="dv", size=(720, 576), frames=3),
    "raw.h264": lambda path: write(path, "libx264", form="h264", options=X264),
    "raw.hevc": lambda path: write(path, "libx265", form="hevc", options={
        "preset": "ultrafast", "x265-params": "log-level=none"}),
    "anim.gif": lambda path: write(path, "gif", pixels="rgb8"),
    "av1.webm": lambda path: write(path, "libsvtav1", frames=3, options={"preset": "12", "crf": "20"}),
    "telecined.m2v": telecined,
    "cinepak.avi": lambda path: write(path, "cinepak", pixels="rgb24", frames=3),
    "jpeg2000.mov": lambda path: write(path, "jpeg2000", options={"b": "20M"}),
    "cineform.mov": lambda path: write(path, "cfhd", pixels="yuv422p10le"),
    "r210.mov": lambda path: write(path, "r210", pixels="gbrp10le", frames=3),
    "mpeg2.mxf": lambda path: write(path, "mpeg2video", options={"b": "5M"}),
    "raw.y4m": lambda path: write(path, "wrapped_avframe", form="yuv4mpegpipe"),
    "anim.png": lambda path: write(path, "apng", form="apng", pixels="rgb24"),
    "decoding_order.avi": lambda path: write(path, "libx264", options={"qp": "18", "bf": "3", "x264-params": "b-adapt=0"}),
    "pauses.avi": lambda path: write(path, "mjpeg", pixels="yuvj420p", frames=6, ticks=25,
                                     times=[Fraction(at, 25) for at in PAUSES]),
    "encrypted.mp4": lambda path: write(path, "libx264", options=X264, container={
        "encryption_scheme": "cenc-aes-ctr", "encryption_key": "0123456789abcdef" * 2, "encryption_kid": "0" * 32}),
    "narrow.ts": lambda path: write(path, "mpeg2video", aspect=Fraction(1), options={"b": "5M"}),
    "wide.ts": lambda path: write(path, "mpeg2video", aspect=Fraction(4, 3), options={"b": "5M"}),
    "upright.ts": lambda path: write(path, "libx264", options=X264),
    "turned.ts": lambda path: turned(path.with_name("upright.ts"), path),
    "pq.mp4": lambda path: hdr(path, 16, "smpte2084"),
    "hlg.mp4": lambda path: hdr(path, 18, "arib-std-b67"),
    "bt2020.mp4": lambda path: hdr(path, 14, "bt2020-10"),
    "two_streams.mp4": two_streams,
    "cover.m4a": cover_only,
}


def main(folder: Path) -> int:
    """Write all clips."""
    av.logging.set_level(av.logging.PANIC)
    for name, make in CLIPS.items():
        make(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
