"""What commands write: a PNG for each object and frame, and a video of the masks over the frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.client import FrameMasks, VideoSession
from sam_service.commands.terminal import Terminal
from sam_service.export.overlay import draw_overlay
from sam_service.masks.png import decode_png, encode_png
from sam_service.video.writer import WebmWriter, shown_for


def mask_path(folder: Path, index: int, object_id: int) -> Path:
    """Where the mask of an object on a frame is written."""
    return folder / f"{index:05d}_{object_id}.png"


def clear_masks(folder: Path) -> None:
    """Make the folder, without masks of an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("[0-9][0-9][0-9][0-9][0-9]_*.png"):
        old.unlink()


def write_masks(folder: Path, frame: FrameMasks) -> None:
    """Write a frame's masks."""
    for object_id, found in frame.masks.items():
        mask_path(folder, frame.index, object_id).write_bytes(encode_png(found.mask))


def write_overlay(session: VideoSession, out: Path, written: Mapping[int, Sequence[int]], times_s: Mapping[int, float],
                  terminal: Terminal) -> list[Path]:
    """Draw the masks that were written, by frame the ids of its objects, over the frames: a video and its first picture.

    times_s: by frame, in the source video.
    """
    video, first = out / "overlay.webm", out / "first.png"
    begins = [times_s[index] for index in sorted(written)]
    lasts = shown_for(begins, session.info["fps"])
    with WebmWriter(video, session.width, session.height, session.info["fps"]) as overlay:
        for done, (index, object_ids) in enumerate(sorted(written.items()), start=1):
            picture = cv2.imdecode(np.frombuffer(session.frame(index), np.uint8), cv2.IMREAD_COLOR_RGB)
            image: NDArray[np.uint8] = np.asarray(picture, np.uint8)
            drawn = draw_overlay(image, {object_id: decode_png(mask_path(out / "masks", index, object_id).read_bytes())
                                         for object_id in object_ids})
            overlay.add(drawn, begins[done - 1] - begins[0], lasts[done - 1])
            if done == 1:
                cv2.imwrite(str(first), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
            terminal.bar("overlay", done, len(written))
    return [video, first]
