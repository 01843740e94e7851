"""Modes: presets over options that can also be set one by one. An option that is set goes before the mode's value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

ModeName = Literal["performance", "balanced", "quality", "battery"]
DEFAULT_MODE: ModeName = "balanced"
SMALLEST_INPUT = INPUT_GRID = 256  # EdgeTAM takes multiples of 256, the others of 32


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a mode decides.

    max_frame_dimension: longer side of a session's frames, pixels. image_size: side of the network's input, pixels; None:
    the model's own, or with `half_input` half of it. threads: of one operation; None: as many as there are usable CPUs, or with
    `half_threads` half of them. feature_cache_mb: image features kept in memory, MiB. precision, device: as in `SAM2_PRECISION`
    and `SAM2_DEVICE`; the precision `fastest` is bfloat16 on a CPU that has it, and `auto` elsewhere.
    """

    max_frame_dimension: int
    feature_cache_mb: int
    half_input: bool = False
    half_threads: bool = False
    image_size: int | None = None
    threads: int | None = None
    precision: str = "auto"
    device: str = "auto"

    def input_side(self, own: int) -> int:
        """The side of the network's input for new sessions, pixels. own: the model's usual one."""
        if self.image_size is not None:
            return self.image_size
        return min(own, max(SMALLEST_INPUT, own // 2 // INPUT_GRID * INPUT_GRID)) if self.half_input else own

    def thread_count(self, cpus: int) -> int:
        """Threads of one operation, at least 1. cpus: how many CPUs the process may use."""
        return self.threads or (max(1, cpus // 2) if self.half_threads else cpus)


MODES: Mapping[ModeName, Knobs] = {
    "performance": Knobs(1280, 256, half_input=True, precision="fastest"),
    "balanced": Knobs(1920, 64),
    "quality": Knobs(3840, 256, precision="float32"),
    "battery": Knobs(1280, 32, half_input=True, half_threads=True, device="cpu"),
}
"""Every mode. `balanced` is what the options' defaults are."""

OPTIONS = {"max_frame_dimension": "MAX_FRAME_DIMENSION", "image_size": "SAM2_IMAGE_SIZE", "threads": "TORCH_NUM_THREADS",
           "feature_cache_mb": "FEATURE_CACHE_MB", "precision": "SAM2_PRECISION", "device": "SAM2_DEVICE"}
"""The option of each knob."""


def with_options(mode: ModeName, given: Mapping[str, Any]) -> Knobs:
    """The knobs of a mode, with the options that are set in place of its values. given: value by the option's name."""
    return replace(MODES[mode], **{knob: given[option] for knob, option in OPTIONS.items() if option in given})
