"""Frames without the network: masks carried on from the neighbouring frame by optical flow (`motion.py`).

Opt-in, and an approximation: parts that come into view are not found, and errors of the flow add up until the network runs
again. The idea of propagating results between key frames is old (Deep Feature Flow, Zhu et al., 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from sam_service.core.features import Frame
from sam_service.core.memory_bank import FrameMemory, ObjectMemory
from sam_service.core.motion import Image, backward_flow, carried, grey


class Carry:
    """Carries masks to the frames between multiples of `every`, for any session."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._last: tuple[str, int, Image] | None = None

    def move(self, key: str, frame: Frame, objects: Sequence[ObjectMemory], *, reverse: bool) -> dict[int, FrameMemory]:
        """What becomes of those of B objects, by id, that are carried to this frame of the session `key`.

        An object that was prompted here, or of which the neighbouring frame knows nothing, is not. A carried frame remembers
        no map, so attention passes it over; its pointer, scores and looks are those of the frame that it came from.
        """
        neighbour = frame.index + (1 if reverse else -1)
        if frame.index % self._every == 0 or frame.other is None:
            return {}
        before = {memory.object_id: memory.conditioning.get(neighbour) or memory.tracked(neighbour) for memory in objects
                  if frame.index not in memory.conditioning}
        known = {object_id: entry for object_id, entry in before.items() if entry is not None}
        if not known:
            return {}
        side = next(iter(known.values())).logits.shape[-1]
        past, present = self._grey(key, neighbour, frame), grey(frame.pixels())
        self._last = (key, frame.index, present)
        flow = backward_flow(present, past, side)
        moved = {}
        for object_id, entry in known.items():
            logits = entry.logits
            if entry.object_score > 0:
                logits = torch.from_numpy(carried(logits.cpu().numpy(), flow)).to(logits.device)
            moved[object_id] = replace(entry, features=entry.features[:0], logits=logits, reverse=reverse, salient=None,
                                       detail=None, sequence=0)
        return moved

    def _grey(self, key: str, index: int, frame: Frame) -> Image:
        if self._last is not None and self._last[:2] == (key, index):
            return self._last[2]
        assert frame.other is not None
        return grey(frame.other(index))
