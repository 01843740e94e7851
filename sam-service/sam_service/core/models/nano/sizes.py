"""The sizes of the embedded model: one."""

from __future__ import annotations

from pathlib import Path

from sam_service.core.models.sizes import ModelSize

FOLDER = Path(__file__).parents[3] / "checkpoints" / "nano"

SIZES = {"nano": ModelSize("nano", "nano, embedded", 4.8, 320, folder=FOLDER,
                           note="embedded, for trying, testing and speed; SAM 2.1 for quality")}
