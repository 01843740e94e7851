"""The embedded model as a network of the engine: a network of SAM 2's kind that is given hints beside its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam2VideoModel

from sam_service.core.device import DevicePolicy
from sam_service.core.features import Features
from sam_service.core.frames import Crop, Floats, Image, Window
from sam_service.core.memory.bank import FrameMemory
from sam_service.core.memory.selection import Selection
from sam_service.core.models.family import Reads, Step
from sam_service.core.models.nano.appearance import fit
from sam_service.core.models.nano.architecture import build_nano, use_bfloat16
from sam_service.core.models.nano.corrections import within
from sam_service.core.models.nano.grabcut import SIDE
from sam_service.core.models.nano.hints import APPEARANCE, COLOUR, PIXELS, Hints, View, choose, pixels_of, refine_crop
from sam_service.core.models.nano.motion import reference_frames
from sam_service.core.models.nano.specks import without_specks
from sam_service.core.models.nano.zoom import cut_out, paste, window_around
from sam_service.core.models.sam.network import LOGIT_CLAMP, Decoded, SamNetwork
from sam_service.core.models.sam.resizing import share_weights
from sam_service.core.prompts import PointPrompt
from sam_service.core.speedups import Speedups


class NanoNetwork(SamNetwork):
    """Answers to points and boxes come from guesses that are decoded and refined; tracked frames get hints."""

    def _set_up(self, policy: DevicePolicy, speedups: Speedups) -> None:
        super()._set_up(policy, speedups)
        self._hints = Hints(self.device)
        self._view: View | None = None

    def lower_precision(self, device: torch.device) -> None:
        """Let the image encoder compute in bfloat16 where the CPU has it."""
        use_bfloat16(self.model, device)

    def resize(self, image: Image, image_size: int) -> Image:
        """Squash an (H, W, 3) uint8 RGB picture to (S, S, 3), by averaging areas where it gets smaller."""
        method = cv2.INTER_AREA if min(image.shape[:2]) >= image_size else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(image, (image_size, image_size), interpolation=method), np.uint8)

    def resized_model(self, image_size: int) -> Sam2VideoModel:
        """The model at another input size, sharing all weights."""
        return share_weights(self.model, build_nano(image_size))

    def reference_frames(self, index: int) -> Sequence[int]:
        """A frame that shows what moves with a prompted object."""
        return reference_frames(index)

    def reads(self, *, prompted: bool) -> Reads:
        """Prompts are refined in the frame's own pixels, and masks are warped from the neighbouring frame."""
        return Reads(whole=prompted, neighbour=not prompted)

    def interpolated(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the object looks like still holds, too."""
        return super().interpolated(state) | {APPEARANCE: state[APPEARANCE]}

    def encode(self, pixels: Image) -> Features:
        """See `Network.encode`."""
        normalised = self.normalised(pixels)
        return self.features_of(pixels, normalised) | {
            PIXELS: torch.from_numpy(pixels), COLOUR: F.avg_pool2d(normalised, 4)}

    def tracking_inputs(self, step: Step, selections: Sequence[Selection]) -> dict[str, Tensor]:
        """Hints."""
        return {"hints": self._hints.of_tracking(self._view_of(step), selections)}

    def clean(self, decoded: Decoded) -> Decoded:
        """Without specks."""
        return replace(decoded, logits=without_specks(decoded.logits))

    def further_state(self, step: Step, decoded: Decoded) -> list[dict[str, Tensor]]:
        """What each object looks like."""
        return [{APPEARANCE: row} for row in fit(self._view_of(step).description, decoded.logits)]

    def decode_points(self, step: Step, image: Tensor, prompt: PointPrompt, earlier: FrameMemory | None, *,
                      first: bool) -> tuple[Decoded, Crop | None]:
        """Guesses where nothing was answered yet, or a box says anew where the object is; else a correction."""
        if earlier is None or prompt.fresh or prompt.boxed or not (earlier.logits > 0).any():
            return self._decode_guesses(step, image, prompt, first=first)
        return self._decode_correction(step, image, prompt, earlier)

    def _decode_guesses(self, step: Step, image: Tensor, prompt: PointPrompt, *, first: bool) -> tuple[Decoded, Crop | None]:
        """Decode first guesses, keep the best, and refine it in a crop around it (`zoom.py`)."""
        frame, hints = step.frame, self._hints
        width, height = frame.width, frame.height
        guesses = hints.guesses(self._view_of(step), prompt, self.image_size // 4)
        multimask = self.use_multimask(first=first, num_points=len(prompt.labels))
        decoded = self.decode(step.features, image.expand(len(guesses), -1, -1, -1), self.sparse(step, prompt, len(guesses)),
                              guesses, multimask=multimask, hints=hints.of_prompt(guesses))
        best, mixed = choose(guesses, decoded.logits, decoded.iou)
        decoded, logits = decoded.row(best), mixed[0, 0].float().cpu().numpy()
        window = window_around(logits, prompt, width, height)
        if window is None or not bool(decoded.object_score > 0):
            return replace(decoded, logits=mixed), None
        crop = Crop(window, refine_crop(frame.crop(window), window.map(prompt, SIDE), cut_out(logits, window, width, height)))
        return self._with(decoded, paste(logits, crop, width, height)), crop

    def _decode_correction(self, step: Step, image: Tensor, prompt: PointPrompt,
                           earlier: FrameMemory) -> tuple[Decoded, Crop | None]:
        """Correct an earlier mask where clicks say so (`corrections.py`); the decoder makes its object pointer and scores."""
        frame = step.frame
        width, height = frame.width, frame.height
        logits, crop = earlier.logits.cpu().numpy(), earlier.crop
        window = window_around(logits, prompt, width, height)
        if window is None:
            answer = within(Window(0, 0, width, height), pixels_of(step.features), prompt, logits, crop, width, height)
            logits, crop = (logits, crop) if answer is None else (answer, None)
        elif (answer := within(window, frame.crop(window), prompt, logits, crop, width, height)) is not None:
            crop = Crop(window, answer)
            logits = paste(logits, crop, width, height)
        dense = torch.from_numpy(logits).to(self.device)[None, None].clamp(-LOGIT_CLAMP, LOGIT_CLAMP)
        decoded = self.decode(step.features, image, self.sparse(step, prompt, 1), dense, multimask=False,
                              hints=self._hints.of_prompt(dense))
        return self._with(decoded, logits), crop

    def _view_of(self, step: Step) -> View:
        """What hints on a frame are made from, described once for all that a step asks of it."""
        if self._view is None or self._view.step is not step:
            self._view = View.of(step)
        return self._view

    def _with(self, decoded: Decoded, logits: Floats) -> Decoded:
        return replace(decoded, logits=torch.from_numpy(logits).to(self.device)[None, None])
