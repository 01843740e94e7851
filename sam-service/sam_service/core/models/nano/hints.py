"""Hints for the nano model: where an object may be, found without the network. `NanoMaskDecoder` weighs them.

A first prompt gets GrabCut's guesses, a correction the corrected mask. A tracked frame gets the object's last mask warped
by optical flow, and marks of what looks like the object. Everything is computed anew from the memory bank and the
clip's pixels, so a restarted process comes to the same hints.

B: objects. K: guesses. D: length of a description. s = S/4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam_service.core.features import Features
from sam_service.core.flow import FLOW_SIDE, backward_flow, grey, warp_mask
from sam_service.core.frames import Floats, FrameSource, Image, resized
from sam_service.core.memory.bank import FrameMemory
from sam_service.core.memory.selection import Selection
from sam_service.core.models.family import Step
from sam_service.core.models.nano.appearance import describe, mark
from sam_service.core.models.nano.architecture import HINTS, LOGIT_UNIT
from sam_service.core.models.nano.grabcut import SIDE, STRETCH, refined
from sam_service.core.models.nano.motion import Places, moving_along
from sam_service.core.models.nano.proposal import proposals
from sam_service.core.models.sam.network import FINE, MIDDLE
from sam_service.core.prompts import POSITIVE, PointPrompt

# Beside the features of every network of its kind: the input (S, S, 3) uint8, and the same normalised (1, 3, 4h, 4w).
PIXELS, COLOUR = "pixels", "colour"
APPEARANCE = "appearance"
"""In a frame's state: (D,) float32, what the object looks like there."""

AGREEMENT = 0.15  # what full agreement of mask and guess is worth, in predicted IoU
LARGER = 0.02  # what an answer e times as large as another is worth; little, for answers that are otherwise rated alike
GUESS_SHARE = 0.5  # of a first guess's logits in the answer
MOST_FLOWS = 8  # of half a MiB each
UNREFINED_SHARE = 0.25  # of the network's logits in an answer that was refined in a crop
CARRIED, PROMPT, ANCHORED, RECENT = range(HINTS)


def candidate_scores(guesses: Tensor, logits: Tensor, answers: Tensor, iou: Tensor) -> Tensor:
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
class View:
    """What hints of one frame are made from. description: (1, D, s, s)."""

    step: Step
    description: Tensor

    @classmethod
    def of(cls, step: Step) -> View:
        """Describe a frame."""
        features = step.features
        return cls(step, describe(features[FINE], features[MIDDLE], features[COLOUR]))

    @property
    def pixels(self) -> Image:
        """The network's input (S, S, 3)."""
        return pixels_of(self.step.features)


def pixels_of(features: Features) -> Image:
    """The network's input (S, S, 3) that features were made from."""
    return np.asarray(features[PIXELS].cpu().numpy(), np.uint8)


class Hints:
    """Makes hints, on the model's device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._flows: OrderedDict[tuple[str, int, int], Floats] = OrderedDict()  # from the frames prompted last

    def guesses(self, view: View, prompt: PointPrompt, side: int) -> Tensor:
        """First guesses (K, 1, s, s), as logits, for a prompt in pixels of a frame."""
        frame = view.step.frame
        flow = self._reference_flow(view)
        found = proposals(frame.crop, view.pixels, frame.width, frame.height, prompt, side,
                          lambda: None if flow is None else _moving(flow(), frame, prompt))
        return torch.from_numpy(found).to(self._device)[:, None]

    def _reference_flow(self, view: View) -> Callable[[], Floats] | None:
        """Finds the flow from a prompted frame to its reference frame, where there is one; all prompts of a frame share it."""
        step = view.step
        if step.frame.reference is None:
            return None
        entry = (step.key, step.frame.index, step.frame.reference)
        found = self._flows.get(entry)
        if found is not None:
            return lambda: found
        pixels, other = view.pixels, _input(step, step.frame.reference)

        def find() -> Floats:
            flow = self._flows[entry] = backward_flow(grey(pixels), grey(other), FLOW_SIDE)
            if len(self._flows) > MOST_FLOWS:
                self._flows.popitem(last=False)
            return flow

        return find

    def of_prompt(self, mask: Tensor) -> Tensor:
        """Hints (B, HINTS, s, s) beside a mask prompt (B, 1, s, s) of logits."""
        hints = mask.new_zeros(len(mask), HINTS, *mask.shape[-2:])
        hints[:, PROMPT] = mask[:, 0].clamp(-LOGIT_UNIT, LOGIT_UNIT) / LOGIT_UNIT
        return hints

    def of_tracking(self, view: View, selections: Sequence[Selection]) -> Tensor:
        """Hints (B, HINTS, s, s) for objects that are carried on to a frame from its neighbour."""
        side = view.description.shape[-1]
        before = [selection.neighbour for selection in selections]
        hints = view.description.new_zeros(len(selections), HINTS, side, side)
        if any(before):
            past = _input(view.step, selections[0].neighbour_index)
            flow = backward_flow(grey(view.pixels), grey(past), side)
            for row, entry in enumerate(before):
                if entry is not None:
                    warped = torch.from_numpy(warp_mask(entry.logits.cpu().numpy(), flow))
                    hints[row, CARRIED] = warped.to(self._device) / LOGIT_UNIT
        anchors = [selection.nearest_conditioning for selection in selections]
        recent = [entry or anchor for entry, anchor in zip(before, anchors, strict=True)]
        hints[:, ANCHORED] = mark(view.description, self._appearances(anchors))[:, 0]
        hints[:, RECENT] = mark(view.description, self._appearances(recent))[:, 0]
        return hints

    def _appearances(self, memories: Sequence[FrameMemory]) -> Tensor:
        """(B, D) as remembered."""
        return torch.stack([memory.state[APPEARANCE] for memory in memories]).to(self._device)


def refine_crop(picture: Image, prompt: PointPrompt, answer: Floats) -> Floats:
    """An answer (s, s) for a part of a frame (h, w, 3) after GrabCut has drawn its outline anew, heeding the clicks.

    prompt: in pixels of a picture of that part of SIDE x SIDE.
    """
    return refined(resized(picture, SIDE, SIDE), *prompt.clicks, answer) + UNREFINED_SHARE * answer


def choose(guesses: Tensor, logits: Tensor, iou: Tensor) -> tuple[int, Tensor]:
    """Which of K decoded guesses to answer with, given their predicted IoU (K,), and its logits (1, 1, s, s), the guess mixed
    in."""
    answers = mixed(guesses, logits)
    best = int(candidate_scores(guesses, logits, answers, iou).argmax())
    return best, answers[best : best + 1]


def _input(step: Step, index: int) -> Image:
    """The network's input for another frame of the clip: kept beside its features, or read."""
    features = step.features_of(index)
    return step.frame.pixels(index) if features is None else pixels_of(features)


def _moving(flow: Floats, frame: FrameSource, prompt: PointPrompt) -> Floats | None:
    """What moves along with the object of a prompt on a frame (`moving_along`)."""
    scale = np.array([FLOW_SIDE / frame.width, FLOW_SIDE / frame.height], np.float32)
    if prompt.box is not None:
        return moving_along(flow, Places.of_box(prompt.box * np.tile(scale, 2)))
    points = prompt.points[prompt.labels == POSITIVE] * scale
    return moving_along(flow, Places.of_clicks(points, STRETCH)) if len(points) else None
