"""Keyframe propagation: the network runs on every n-th frame, and optical flow carries the masks between (`flow.py`).

Opt-in, and an approximation: parts that come into view are not found, and errors of the flow add up until the network runs
again. The idea of propagating results between keyframes is old (Deep Feature Flow, Zhu et al., 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sam_service.core.flow import backward_flow, grey, warp_mask
from sam_service.core.frames import FrameSource, Image
from sam_service.core.memory.bank import FrameMemory, ObjectMemory
from sam_service.core.memory.selection import neighbour_of


class Keyframes:
    """Carries masks to the frames between multiples of `every`, for any session."""

    def __init__(self, every: int, interpolated: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]) -> None:
        """interpolated: what of a frame's state still holds on its neighbour."""
        self.every = every
        self._interpolated = interpolated
        self._last: tuple[str, int, Image] | None = None

    def carry(self, key: str, frame: FrameSource, objects: Sequence[ObjectMemory], *, reverse: bool) -> dict[int, FrameMemory]:
        """The memories of those objects, by id, that are carried to this frame of the session `key`.

        An object that was prompted here, or of which nothing is known on the neighbouring frame, is not. A carried frame is no
        memory for the network; its scores are those of the frame that it came from.
        """
        neighbour = neighbour_of(frame.index, reverse=reverse)
        if frame.index % self.every == 0:
            return {}
        before = {memory.object_id: memory.at(neighbour) for memory in objects if frame.index not in memory.conditioning}
        found = {object_id: entry for object_id, entry in before.items() if entry is not None}
        if not found:
            return {}
        rows, columns = next(iter(found.values())).logits.shape
        past, present = self._grey(key, neighbour, frame), grey(frame.pixels())
        self._last = (key, frame.index, present)
        flow = backward_flow(present, past, rows, columns)
        carried = {}
        for object_id, entry in found.items():
            logits = entry.logits
            if entry.object_score > 0:
                logits = torch.from_numpy(warp_mask(logits.cpu().numpy(), flow)).to(logits.device)
            carried[object_id] = replace(entry, state=self._interpolated(entry.state), logits=logits, reverse=reverse,
                                         sequence=0, interpolated=True)
        return carried

    def _grey(self, key: str, index: int, frame: FrameSource) -> Image:
        if self._last is not None and self._last[:2] == (key, index):
            return self._last[2]
        return grey(frame.pixels(index))
