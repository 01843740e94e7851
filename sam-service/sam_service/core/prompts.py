"""What a client says about one object on one frame, as numbers. No torch.

P: points of the prompt. H, W: size of the session's frames in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """Clicks and at most one box, as SAM 2 takes them: a box is two points with labels of their own, put first.

    points: (P, 2) float32, x and y in pixels of the session's frame.
    labels: (P,) int32, 1 positive, 0 negative, 2 and 3 the corners of a box.
    fresh: start over, without the mask that the frame had so far.
    boxed: the box came just now; it says anew where the object is, whatever mask there was.
    sequence: which entry of the session's log it is, 0 for none. Answered once: asked again, it gives the answer remembered.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int32]
    fresh: bool = False
    boxed: bool = False
    sequence: int = 0

    @property
    def clicks(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The positive and negative clicks alone: (P, 2) and (P,)."""
        keep = self.labels <= POSITIVE
        return self.points[keep], self.labels[keep]

    @property
    def box(self) -> NDArray[np.float32] | None:
        """(4,) x0, y0, x1, y1 of the box, or None."""
        corners = self.points[self.labels >= BOX_TOP_LEFT]
        return corners.reshape(4) if len(corners) == 2 else None


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """A mask taken as the truth on its frame. mask: (H, W) bool. sequence: as in `PointPrompt`."""

    mask: NDArray[np.bool_]
    sequence: int = 0


Prompt = PointPrompt | MaskPrompt
