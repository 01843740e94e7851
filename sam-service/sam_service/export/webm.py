"""`webm` and `mp4`: the objects on the frames as a video. A muxer goes back in its file, so it is made whole, then sent."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_service.errors import EngineError, InvalidInput
from sam_service.export.clip import Clip, Options
from sam_service.export.overlay import draw_look
from sam_service.export.uids import fix_uids
from sam_service.failures import disk_full, is_disk_full, translate
from sam_service.video.writer import Mp4Writer, WebmWriter, shown_for

TEMPORARY_PREFIX = "export-"
PIECE_BYTES = 1 << 18


def write_webm(clip: Clip, options: Options) -> Generator[bytes, None, None]:
    """The frames of the range with the objects drawn over them."""
    return film(clip, _pictures(clip, options), alpha=False)


def write_mp4(clip: Clip, options: Options) -> Generator[bytes, None, None]:
    """The same in H.264, which players and editors take that know no WebM."""
    return film(clip, _pictures(clip, options), alpha=False, writer=Mp4Writer)


def film(clip: Clip, pictures: Generator[NDArray[np.uint8], None, None], *, alpha: bool,
         writer: type[WebmWriter] = WebmWriter) -> Generator[bytes, None, None]:
    """The bytes of a video of `pictures`: nothing for each picture that is encoded, then the file in pieces.

    Each picture is shown at its own time, counted from the clip's first. The file is gone when this ends, however it ends.
    pictures: uint8 (H, W, 3) RGB, or (H, W, 4) BGRA with `alpha`.
    """
    if min(clip.width, clip.height) < 2:
        raise InvalidInput(f"pictures of {clip.width} x {clip.height} pixels are too small for a video", field="format")
    path = _temporary(clip.folder, writer.suffix)
    shown = zip(clip.timestamps_s, shown_for(clip.timestamps_s, clip.fps), strict=True)
    try:
        with contextlib.closing(pictures), writer(path, clip.width, clip.height, clip.fps, alpha=alpha) as video:
            for picture, (at_s, for_s) in zip(pictures, shown, strict=True):
                video.add(picture, at_s - clip.timestamps_s[0], for_s)
                yield b""
        if writer.suffix == ".webm":
            fix_uids(path)
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError as error:
        if is_disk_full(error):
            raise disk_full("the video could not be written whole: the service's disk is full; delete sessions or try "
                            "later") from None
        raise translate(error) or EngineError("the video could not be written", code="export_failed") from error
    finally:
        path.unlink(missing_ok=True)


def _pictures(clip: Clip, options: Options) -> Generator[NDArray[np.uint8], None, None]:
    colours = {item.object_id: item.colour for item in clip.objects}
    with clip.open_pictures() as pictures:
        for index, masks in clip.all_frames():
            shown = {mask.object_id: clip.pixels(mask) for mask in masks}
            yield draw_look(pictures.read(index), shown, options.look, options.opacity, colours=colours)


def _temporary(folder: Path, suffix: str) -> Path:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=TEMPORARY_PREFIX, suffix=suffix, delete=False) as file:
        return Path(file.name)
