"""What is exported: a range of a session's frames, some of its objects, and their masks as they were at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_service.export.pictures import Pictures
from sam_service.masks.rle import decode_rle, encode_rle

Size = Literal["session", "original"]
Segmentation = Literal["rle", "polygon"]
Look = Literal["tint", "outline", "spotlight", "blur"]
SMOOTHING_PX = 0.6
"""Of an enlarged mask, in pixels of the session. Random outlines enlarged by 2 and 3: IoU with the true ones 0.974 and 0.969;
without it 0.967 and 0.960, by nearest neighbours 0.967 and 0.948. What is one pixel small and alone is smoothed away."""


class ExportedObject(NamedTuple):
    """An object: its number, its name as the client gave it, its colour as RGB."""

    object_id: int
    name: str
    colour: tuple[int, int, int]


class ExportedMask(NamedTuple):
    """A stored mask of the session's size. counts: COCO compressed RLE of the (height, width) mask."""

    object_id: int
    height: int
    width: int
    counts: str
    score: float
    object_score: float

    @property
    def rle(self) -> dict[str, object]:
        """The mask as COCO compressed RLE."""
        return {"size": [self.height, self.width], "counts": self.counts}


Masks = tuple[ExportedMask, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """Options of some formats. images: put the frames in; feather_px: width of a cut-out's soft edge; segmentation: of COCO;
    look: what a video makes of the masks; opacity: how strongly, 0 to 1, None for the look's own."""

    images: bool = False
    feather_px: float = 0.0
    segmentation: Segmentation = "rle"
    look: Look = "tint"
    opacity: float | None = None


@dataclass(slots=True)
class Clip:
    """The material of one export.

    width, height: of what is exported, pixels. fps: frames a second of the session's frames. first, last: frames, both
    inclusive. timestamps_s: of the frames from `first` on. stored_masks: reads all frames of the range that have masks, in
    order, as often as it is called, always the same. open_pictures: the frames' pictures. folder: for temporary files.
    done: frames written so far.
    """

    session_id: str
    video_name: str
    width: int
    height: int
    fps: float
    first: int
    last: int
    timestamps_s: list[float]
    objects: tuple[ExportedObject, ...]
    stored_masks: Callable[[], Iterator[tuple[int, Masks]]]
    open_pictures: Callable[[], AbstractContextManager[Pictures]]
    folder: Path
    done: int = field(default=0)

    @property
    def num_frames(self) -> int:
        """Frames of the range."""
        return self.last - self.first + 1

    def timestamp_s(self, index: int) -> float:
        """Seconds from the start of the source video to a frame."""
        return round(self.timestamps_s[index - self.first], 5)

    def masked_frames(self) -> Iterator[tuple[int, Masks]]:
        """The frames that have masks, in order. Counts the frames that are done."""
        for index, masks in self.stored_masks():
            yield index, masks
            self.done = index - self.first + 1
        self.done = self.num_frames

    def all_frames(self) -> Iterator[tuple[int, Masks]]:
        """Every frame of the range, without masks where none is stored. Counts the frames that are done."""
        stored = self.stored_masks()
        masked, masks = next(stored, (-1, ()))
        for index in range(self.first, self.last + 1):
            if index == masked:
                yield index, masks
                masked, masks = next(stored, (-1, ()))
            else:
                yield index, ()
            self.done = index - self.first + 1

    def pixels(self, mask: ExportedMask) -> NDArray[np.bool_]:
        """The mask in the export's size: bool (height, width)."""
        return enlarged(decode_rle(mask.rle), self.width, self.height)

    def rle(self, mask: ExportedMask) -> dict[str, object]:
        """The mask in the export's size as COCO compressed RLE."""
        if (mask.width, mask.height) == (self.width, self.height):
            return mask.rle
        return dict(encode_rle(self.pixels(mask)))


def enlarged(mask: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    """A mask (H, W) brought to (height, width) with a smooth outline where nearest neighbours would leave steps."""
    if mask.shape == (height, width):
        return mask
    soft = cv2.resize(np.where(mask, np.uint8(255), np.uint8(0)), (width, height), interpolation=cv2.INTER_LINEAR)
    scale = max(1.0, height / mask.shape[0])
    return np.asarray(cv2.GaussianBlur(soft, (0, 0), SMOOTHING_PX * scale) > 127)
