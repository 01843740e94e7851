"""Pictures of what a run has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from sam_service.core.models.nano.architecture import Network, Past

from training.rounds import logits_of, pixels, truth_of
from training.sampler import Clip


@torch.no_grad()
def picture_page(network: Network, clips: Sequence[Clip], path: Path, device: torch.device) -> None:
    """A row for each clip: its frames with the true outline in red and the tracked one in green."""
    rows = []
    for clip in clips:
        first = network.encode(pixels(clip.images[:1], device))
        memory = network.memory_of(first, logits_of(truth_of(clip.masks[:1], device).mask))
        row = []
        for image, mask, distance in zip(clip.images, clip.masks, clip.distances, strict=True):
            features = network.encode(pixels([image], device))
            readout = network.readout(features, [Past(memory, True, distance)])
            logits = network.decode(features, None, None, readout).logits[0, 0].cpu().numpy()
            guess = cv2.resize(logits, image.shape[1::-1]) > 0
            canvas = np.ascontiguousarray(image[..., ::-1])
            for shape, colour in ((np.nan_to_num(mask) > 0.5, (0, 0, 255)), (guess, (0, 255, 0))):
                outlines = cv2.findContours(shape.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
                cv2.drawContours(canvas, outlines, -1, colour, 1)
            row.append(canvas)
        rows.append(np.hstack(row))
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows))
