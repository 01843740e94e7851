"""The image encoder of every SAM 2.1 size against Meta's own: shapes agree, and so do the features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clip import network_input
from recorded import EDGETAM_PLAN, FOLDER, PLAN, Recording, relative_difference
from sam_service.core.models.edgetam.repvit import fold
from sam_service.core.models.sam.network import SamNetwork
from seeded_weights import write_seeded

from tests.networks import load_network

TOLERANCE = 1e-4
LARGER = [pytest.param(size, marks=pytest.mark.slow) for size in ("small", "base_plus", "large")]


def encoder_differences(loaded: SamNetwork, recording: Recording) -> list[float]:
    """The relative difference of each feature level on frame 0."""
    image = torch.from_numpy(network_input(0, loaded.image_size))[None]
    with torch.inference_mode():
        levels = loaded.model.vision_encoder(image).fpn_hidden_states
    theirs = recording.encoder(loaded.info.size)
    ours = [level[0, ::8, ::4, ::4].numpy() for level in levels]
    return [relative_difference(one, other) for one, other in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize("size", ["tiny", *LARGER])
def test_sizes(size: str, tmp_path: Path, recording: Recording) -> None:
    write_seeded(tmp_path / "weights.pt", size)
    loaded = load_network(size, checkpoint=tmp_path / "weights.pt", image_size=PLAN["image_size"])
    assert max(encoder_differences(loaded, recording)) < TOLERANCE


def test_edgetam(tmp_path: Path) -> None:
    recording = Recording(FOLDER / "edgetam-256.npz", EDGETAM_PLAN)
    write_seeded(tmp_path / "weights.pt", "edgetam")
    loaded = load_network("edgetam", checkpoint=tmp_path / "weights.pt", image_size=EDGETAM_PLAN["image_size"])
    assert max(encoder_differences(loaded, recording)) < TOLERANCE
    fold(loaded.model.vision_encoder)
    assert max(encoder_differences(loaded, recording)) < TOLERANCE
