"""The encoding process: `python -m sam_service.video.writer_child`, which reads pictures from its standard input.

First comes a line of JSON (path, width, height, fps, alpha, suffix), then each picture: its time and how long it is shown, in
seconds, and its bytes, RGB or BGRA, row by row. It ends with its input; a line of JSON on its standard output says what went
wrong.
With `--encoders` it only says, in JSON, which of the encoders there are.
"""

from __future__ import annotations

import json
import os
import sys
from fractions import Fraction
from typing import IO

import av
import av.error
import av.logging
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from sam_service.video.confine import die_with_parent
from sam_service.video.writer import PICTURE_HEAD

_TICKS = 1_000_000  # a second: two pictures of one millisecond still follow one another
_MP4_TICKS = 90_000  # what editors are used to
_LARGEST_BIT_RATE = 1_000_000_000
_SETTINGS = {
    "libvpx": {"deadline": "realtime", "cpu-used": "-4", "crf": "8", "qmin": "2", "qmax": "40", "lag-in-frames": "0",
               "auto-alt-ref": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "7", "crf": "12", "lag-in-frames": "0", "auto-alt-ref": "0"},
    "libx264": {"preset": "veryfast", "crf": "16"},
}
_HD_HEIGHT = 720  # from here on, players take a file that says nothing for BT.709, below for BT.601
_FORMATS = {".webm": ("webm", "matroska", {}), ".mp4": ("mp4", "mp4", {"movflags": "+faststart", "fflags": "+bitexact"})}
"""Muxer, demuxer and the muxer's options, by the file's suffix."""
"""A negative cpu-used of VP8 is a speed that does not adapt to the machine's load: the same pictures give the same bytes.
Quality decides, not a rate: pictures may be hours apart. No picture is hidden: each has its own place in the file."""


def main() -> int:
    """Write one file."""
    if sys.argv[1:] == ["--encoders"]:
        print(json.dumps([name for name in _SETTINGS if name in av.codecs_available]))
        return 0
    die_with_parent()
    os.nice(5)
    av.logging.set_level(av.logging.PANIC)
    source = sys.stdin.buffer
    options = json.loads(source.readline())
    try:
        written = _write(source, **options)
        _check(options["path"], _FORMATS[options["suffix"]][1], written)
    except av.error.FFmpegError as error:
        print(json.dumps({"errno": error.errno, "message": str(error)}), flush=True)
        return 1
    return 0


def _write(source: IO[bytes], path: str, width: int, height: int, fps: float, alpha: bool, suffix: str) -> int:
    """Encode all pictures; odd sizes are cut by a pixel. fps is what the file says of itself. Returns how many there were."""
    channels, layout = (4, "bgra") if alpha else (3, "rgb24")
    even = (width - width % 2, height - height % 2)
    codec = "libx264" if suffix == ".mp4" else "libvpx-vp9" if alpha else "libvpx"
    ticks = _MP4_TICKS if suffix == ".mp4" else _TICKS
    muxer, _, muxing = _FORMATS[suffix]
    rate = max(Fraction(fps).limit_denominator(_TICKS), Fraction(1, _TICKS))
    count = 0
    with av.open(path, "w", format=muxer, options=muxing) as target:
        stream = target.add_stream(codec, rate=rate, options=_SETTINGS[codec])
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = even
        stream.pix_fmt = "yuva420p" if alpha else "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, ticks)
        stream.codec_context.thread_count = 1
        matrix = _say_colours(stream, hd=codec != "libvpx" and height >= _HD_HEIGHT)
        if codec == "libvpx":
            stream.bit_rate = _LARGEST_BIT_RATE
        last = -1
        while head := source.read(PICTURE_HEAD.size):
            at_s, shown_s = PICTURE_HEAD.unpack(head)
            pixels = np.frombuffer(source.read(width * height * channels), np.uint8).reshape(height, width, channels)
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels[: even[1], : even[0]]), format=layout)
            frame = frame.reformat(format=stream.pix_fmt, dst_colorspace=matrix, dst_color_range=ColorRange.MPEG, threads=1)
            frame.pts = last = max(round(at_s * ticks), last + 1)
            frame.time_base = Fraction(1, ticks)
            for packet in stream.encode(frame):
                packet.duration = max(1, round(shown_s * ticks))
                target.mux(packet)
            count += 1
        for packet in stream.encode(None):
            target.mux(packet)
    return count


def _say_colours(stream: VideoStream, *, hd: bool) -> Colorspace:
    """Write into the file how its colours are to be read, and return the matrix that the pictures are to be made with.

    A player that is not told chooses by the picture's size, and another matrix turns red into orange. VP8 knows BT.601 only.
    """
    context = stream.codec_context
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU709 if hd else Colorspace.ITU601
    context.color_primaries = ColorPrimaries.BT709 if hd else ColorPrimaries.SMPTE170M
    context.color_trc = ColorTrc.BT709 if hd else ColorTrc.SMPTE170M
    return Colorspace.ITU709 if hd else Colorspace.ITU601


def _check(path: str, demuxer: str, written: int) -> None:
    """A muxer keeps silent about what is lost at the end; then the file does not have all its pictures."""
    with av.open(path, format=demuxer) as file:
        found = sum(packet.size > 0 for packet in file.demux(video=0))
    if found != written:
        raise av.error.InvalidDataError(0, f"{found} of {written} pictures were written")


if __name__ == "__main__":
    sys.exit(main())
