"""Hints for the nano model: where an object may be, found without the network. `NanoMaskDecoder` weighs them.

A first prompt gets GrabCut's guesses, a correction the corrected mask. A tracked frame gets the object's last mask carried
along by optical flow, and marks of what looks like the object. Everything is computed anew from the memory bank and the
clip's pixels, so a restarted process comes to the same hints.

B: objects. K: guesses. D: length of a description. s = S/4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_service.core.appearance import describe, fit, mark
from sam_service.core.features import Frame, ImageEncoder, ImageFeatures
from sam_service.core.grabcut import SIDE, STRETCH, refined
from sam_service.core.memory_bank import FrameMemory, ObjectMemory
from sam_service.core.motion import SIDE as FLOW_SIDE
from sam_service.core.motion import Places, backward_flow, carried, grey, moving_along
from sam_service.core.nano import HINTS, LOGIT_UNIT
from sam_service.core.prompts import POSITIVE, PointPrompt
from sam_service.core.proposal import proposals
from sam_service.core.zoom import Floats, Image, part_of, resized

AGREEMENT = 0.15  # what full agreement of mask and guess is worth, in predicted IoU
LARGER = 0.02  # what an answer e times as large as another is worth; little, for answers that are otherwise rated alike
GUESS_SHARE = 0.5  # of a first guess's logits in the answer
MOST_FLOWS = 8  # of half a MiB each
UNMENDED_SHARE = 0.25  # of the network's logits in an answer that was mended at a closer look
CARRIED, PROMPT, ANCHORED, RECENT = range(HINTS)


def worths(guesses: Tensor, logits: Tensor, answers: Tensor, iou: Tensor) -> Tensor:
    """What each of K answers (K, 1, s, s) is worth that `mixed` made of guesses and logits, given its predicted IoU (K,).

    The predicted IoU alone prefers masks that leave their guess; so agreement of the two counts as well. Of a part and the
    whole of a thing, rated alike, the whole is more often meant.
    """
    drawn, guessed = logits > 0, guesses > 0
    union = (drawn | guessed).sum((1, 2, 3)).clamp(min=1)
    share = answers.gt(0).float().mean((1, 2, 3))
    return iou + AGREEMENT * (drawn & guessed).sum((1, 2, 3)) / union + LARGER * (share + 1e-4).log()


def mixed(guesses: Tensor, logits: Tensor) -> Tensor:
    """Answers (K, 1, s, s) with their guesses mixed in; an empty answer stays empty."""
    drawn = (logits > 0).flatten(1).any(1)[:, None, None, None]
    return logits + GUESS_SHARE * guesses * drawn


@dataclass(frozen=True, slots=True)
class Sight:
    """What hints of one frame are made from. description: (1, D, s, s)."""

    key: str
    frame: Frame
    features: ImageFeatures
    description: Tensor


class Hints:
    """Makes hints, on the model's device."""

    def __init__(self, encoder: ImageEncoder, device: torch.device) -> None:
        self._encoder = encoder
        self._device = device
        self._flows: OrderedDict[tuple[str, int, int], Floats] = OrderedDict()  # beside the frames prompted last

    def sight(self, key: str, frame: Frame, features: ImageFeatures) -> Sight:
        """Describe a frame of the session `key`."""
        assert features.colour is not None
        return Sight(key, frame, features, describe(features.fine, features.middle, features.colour))

    def guesses(self, sight: Sight, prompt: PointPrompt, side: int) -> Tensor:
        """First guesses (K, 1, s, s), as logits, for a prompt in pixels of a frame."""
        frame, pixels = sight.frame, sight.features.pixels
        assert pixels is not None
        width, height = frame.width, frame.height
        flow = self._flow_beside(sight, pixels)
        found = proposals(frame.part or (lambda window: part_of(pixels, window, width, height)), pixels, width, height, prompt,
                          side, lambda: None if flow is None else _moving(flow(), frame, prompt))
        return torch.from_numpy(found).to(self._device)[:, None]

    def _flow_beside(self, sight: Sight, pixels: Image) -> Callable[[], Floats] | None:
        """Finds the flow from a prompted frame to the one beside it, where there is one; all prompts of a frame share it."""
        frame = sight.frame
        if frame.beside is None:
            return None
        entry = (sight.key, frame.index, frame.beside)
        known = self._flows.get(entry)
        if known is not None:
            return lambda: known
        other = self._encoder.pixels_of(sight.key, frame, frame.beside)
        if other is None:
            return None

        def find() -> Floats:
            flow = self._flows[entry] = backward_flow(grey(pixels), grey(other), FLOW_SIDE)
            if len(self._flows) > MOST_FLOWS:
                self._flows.popitem(last=False)
            return flow

        return find

    @staticmethod
    def mended(picture: Image, prompt: PointPrompt, answer: NDArray[np.float32]) -> NDArray[np.float32]:
        """An answer (s, s) for a part of a frame (h, w, 3) after GrabCut has drawn its outline anew, heeding the clicks.

        prompt: in pixels of a picture of that part of SIDE x SIDE.
        """
        return refined(resized(picture, SIDE, SIDE), *prompt.clicks, answer) + UNMENDED_SHARE * answer

    @staticmethod
    def choose(guesses: Tensor, logits: Tensor, iou: Tensor) -> tuple[int, Tensor]:
        """Which of K decoded guesses to answer with, given their predicted IoU (K,), and its logits (1, 1, s, s), the guess
        mixed in."""
        answers = mixed(guesses, logits)
        best = int(worths(guesses, logits, answers, iou).argmax())
        return best, answers[best : best + 1]

    def of_prompt(self, mask: Tensor) -> Tensor:
        """Hints (B, HINTS, s, s) beside a mask prompt (B, 1, s, s) of logits."""
        hints = mask.new_zeros(len(mask), HINTS, *mask.shape[-2:])
        hints[:, PROMPT] = mask[:, 0].clamp(-LOGIT_UNIT, LOGIT_UNIT) / LOGIT_UNIT
        return hints

    def of_tracking(self, sight: Sight, objects: Sequence[ObjectMemory], *, reverse: bool) -> Tensor:
        """Hints (B, HINTS, s, s) for objects that are carried on to a frame from its neighbour."""
        index, side = sight.frame.index, sight.description.shape[-1]
        neighbour = index + (1 if reverse else -1)
        before = [memory.conditioning.get(neighbour) or memory.tracked(neighbour) for memory in objects]
        hints = sight.description.new_zeros(len(objects), HINTS, side, side)
        past = self._encoder.pixels_of(sight.key, sight.frame, neighbour) if any(before) else None
        if past is not None and sight.features.pixels is not None:
            flow = backward_flow(grey(sight.features.pixels), grey(past), side)
            for row, entry in enumerate(before):
                if entry is not None:
                    moved = torch.from_numpy(carried(entry.logits.cpu().numpy(), flow))
                    hints[row, CARRIED] = moved.to(self._device) / LOGIT_UNIT
        anchors = [memory.conditioning[min(memory.conditioning, key=lambda at: abs(at - index))] for memory in objects]
        recent = [entry or anchor for entry, anchor in zip(before, anchors, strict=True)]
        hints[:, ANCHORED] = mark(sight.description, self._appearances(anchors))[:, 0]
        hints[:, RECENT] = mark(sight.description, self._appearances(recent))[:, 0]
        return hints

    def appearances(self, sight: Sight, logits: Tensor) -> Tensor:
        """What objects look like on a frame: (B, D) from their masks' logits (B, 1, s, s)."""
        return fit(sight.description, logits)

    def _appearances(self, entries: Sequence[FrameMemory]) -> Tensor:
        """(B, D) as remembered."""
        found = [entry.appearance for entry in entries if entry.appearance is not None]
        assert len(found) == len(entries)
        return torch.stack(found).to(self._device)


def _moving(flow: Floats, frame: Frame, prompt: PointPrompt) -> Floats | None:
    """What moves along with the object of a prompt on a frame (`moving_along`)."""
    scale = np.array([FLOW_SIDE / frame.width, FLOW_SIDE / frame.height], np.float32)
    if prompt.box is not None:
        return moving_along(flow, Places.of_box(prompt.box * np.tile(scale, 2)))
    points = prompt.points[prompt.labels == POSITIVE] * scale
    return moving_along(flow, Places.of_clicks(points, STRETCH)) if len(points) else None
