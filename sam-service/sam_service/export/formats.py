"""The formats of exports, each once: the service, its page, the client and the command line all read this table.

It imports none of the code that writes them, so that the command line can name them at once.
"""

from __future__ import annotations

from collections.abc import Generator
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from sam_service.export.clip import Clip, Options

FormatName = Literal["webm", "mp4", "png", "davis", "coco", "yolo", "labelme", "cutout", "cutout-png"]
OptionName = Literal["images", "feather", "segmentation", "look", "opacity"]


class Format(NamedTuple):
    """title, description: for people. writer: `module.function` in this package. takes: the options that mean something to it.
    needs_disk: whether it is written to a temporary file first."""

    title: str
    description: str
    writer: str
    media_type: str
    suffix: str
    takes: frozenset[OptionName] = frozenset()
    needs_disk: bool = False

    def write(self, clip: Clip, options: Options) -> Generator[bytes, None, None]:
        """The file's bytes, in pieces, some of them empty."""
        module, _, function = self.writer.partition(".")
        writer = getattr(import_module(f"sam_service.export.{module}"), function)
        return cast("Generator[bytes, None, None]", writer(clip, options))


ZIP, JSON, WEBM, MP4 = "application/zip", "application/json", "video/webm", "video/mp4"
_LOOKS: frozenset[OptionName] = frozenset({"look", "opacity"})
FORMATS: dict[FormatName, Format] = {
    "webm": Format("Video, WebM", "the objects brought out on the frames", "webm.write_webm", WEBM, "-overlay.webm", _LOOKS,
                   needs_disk=True),
    "mp4": Format("Video, MP4", "the same as H.264, for players and editors", "webm.write_mp4", MP4, "-overlay.mp4", _LOOKS,
                  needs_disk=True),
    "png": Format("Masks", "zip of a PNG for each object and frame", "png.write_png", ZIP, "-png.zip"),
    "davis": Format("DAVIS", "zip of palette PNGs, all objects in one", "davis.write_davis", ZIP, "-davis.zip",
                    frozenset({"images"})),
    "coco": Format("COCO", "JSON with compressed RLE or polygons", "coco.write_coco", JSON, "-coco.json",
                   frozenset({"segmentation"})),
    "yolo": Format("YOLO segmentation", "zip of label files with polygons", "yolo.write_yolo", ZIP, "-yolo.zip",
                   frozenset({"images"})),
    "labelme": Format("labelme", "zip of a JSON with polygons for each frame", "labelme.write_labelme", ZIP, "-labelme.zip",
                      frozenset({"images"})),
    "cutout": Format("Cut out, video", "WebM, the background removed", "cutout.write_cutout", WEBM, "-cutout.webm",
                     frozenset({"feather"}), needs_disk=True),
    "cutout-png": Format("Cut out, pictures", "zip of PNGs with transparency", "cutout.write_cutout_png", ZIP,
                         "-cutout-png.zip", frozenset({"feather"})),
}


def formats_with(option: OptionName) -> str:
    """The formats that an option means something to, with commas."""
    return ", ".join(name for name, form in FORMATS.items() if option in form.takes)


def file_name(video_name: str, form: FormatName) -> str:
    """The name under which an export is saved."""
    from sam_service.export.archive import safe_name
    return safe_name(video_name.rpartition(".")[0] or video_name, "video") + FORMATS[form].suffix
