"""The table of formats."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Literal, NamedTuple

from sam_service.export.archive import safe_name
from sam_service.export.clip import Clip, Options
from sam_service.export.coco import write_coco
from sam_service.export.cutout import write_cutout, write_cutout_png
from sam_service.export.davis import write_davis
from sam_service.export.png import write_png
from sam_service.export.webm import write_webm
from sam_service.export.yolo import write_yolo

FormatName = Literal["png", "davis", "coco", "yolo", "webm", "cutout", "cutout-png"]


class Format(NamedTuple):
    """write: the bytes, in pieces, some of them empty. takes: the options that mean something to it. needs_disk: whether it is
    written to a temporary file first."""

    write: Callable[[Clip, Options], Generator[bytes, None, None]]
    media_type: str
    suffix: str
    takes: frozenset[str] = frozenset()
    needs_disk: bool = False


ZIP, JSON, WEBM = "application/zip", "application/json", "video/webm"
FORMATS: dict[FormatName, Format] = {
    "png": Format(write_png, ZIP, "-png.zip"),
    "davis": Format(write_davis, ZIP, "-davis.zip", frozenset({"images"})),
    "coco": Format(write_coco, JSON, "-coco.json"),
    "yolo": Format(write_yolo, ZIP, "-yolo.zip", frozenset({"images"})),
    "webm": Format(write_webm, WEBM, "-overlay.webm", needs_disk=True),
    "cutout": Format(write_cutout, WEBM, "-cutout.webm", frozenset({"feather"}), needs_disk=True),
    "cutout-png": Format(write_cutout_png, ZIP, "-cutout-png.zip", frozenset({"feather"})),
}


def file_name(video_name: str, form: FormatName) -> str:
    """The name under which an export is saved."""
    return safe_name(video_name.rpartition(".")[0] or video_name, "video") + FORMATS[form].suffix
