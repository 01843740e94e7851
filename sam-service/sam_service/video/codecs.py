"""The codecs that are accepted, and FFmpeg's own guards. Knows no decoder."""

from __future__ import annotations

from sam_service.errors import NotAVideo
from sam_service.video.containers import DEMUXERS

CODECS = {
    "H.264": ("h264",),
    "HEVC": ("hevc",),
    "AV1": ("libdav1d", "av1"),
    "VP8": ("vp8",),
    "VP9": ("vp9",),
    "MPEG-4": ("mpeg4", "msmpeg4v2", "msmpeg4"),
    "MPEG-1/2": ("mpeg1video", "mpeg2video", "mpegvideo"),
    "MJPEG": ("mjpeg",),
    "ProRes": ("prores",),
    "DNxHD": ("dnxhd",),
    "H.263": ("h263", "flv"),
    "FFV1": ("ffv1",),
    "WMV": ("wmv1", "wmv2", "wmv3", "vc1"),
    "Theora": ("theora",),
    "DV": ("dvvideo",),
    "HuffYUV": ("huffyuv", "ffvhuff"),
    "Ut Video": ("utvideo",),
    "QuickTime Animation": ("qtrle",),
    "JPEG 2000": ("jpeg2000",),
    "CineForm": ("cfhd",),
    "Cinepak": ("cinepak",),
    "Microsoft Video 1": ("msvideo1",),
    "VP6": ("vp6", "vp6f"),
    "PNG": ("png", "apng"),
    "GIF": ("gif",),
    "uncompressed": ("rawvideo", "v210", "v410", "r210", "r10k"),
}
"""What is decoded: its name for people, and FFmpeg's decoders of it."""

_DECODERS = frozenset(name for names in CODECS.values() for name in names)
_SOUND = "aac,mp3,mp3float,ac3,eac3,mp2,mp2float,opus,vorbis,flac,wmav1,wmav2"
CONVERT = "ffmpeg -i INPUT -c:v libx264 -crf 16 -pix_fmt yuv420p OUTPUT.mp4"
"""The line that turns nearly anything into a video that is accepted."""

CONTAINER_OPTIONS = {
    "protocol_whitelist": "fd",
    "format_whitelist": ",".join(DEMUXERS.values()),
    "codec_whitelist": ",".join((*sorted(_DECODERS), _SOUND)),
    "max_streams": "64",
}
"""FFmpeg's own guards: no protocol but the open file, the demuxers of `containers.py`, few streams; while it looks into the
streams it opens no decoder but these. Without a sound track's decoder it would read on in vain."""


def check_codec(decoder: str) -> None:
    """Raise `NotAVideo` (code `codec_not_accepted`) unless FFmpeg's decoder of that name is on the list."""
    if decoder not in _DECODERS:
        raise NotAVideo(f"the video's codec is {decoder}, which is not one of the accepted ones: {', '.join(CODECS)}; "
                        f"convert it with `{CONVERT}`", code="codec_not_accepted")
