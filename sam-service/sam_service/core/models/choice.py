"""Which model a machine is advised to run: what `auto` stands for as a model size. Imports neither torch nor transformers.

The advice itself stands with the sizes (`ModelSize.advised`); README has the same as a table.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sam_service.core.models.registry import DEFAULT_SIZE, SIZES

DEVICES = {"cuda": "a CUDA device", "mps": "Apple Metal"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A size for a machine. image_size: side in pixels of its input, None for the size's own. reason: why, for people."""

    size: str
    image_size: int | None
    reason: str


def choose(device: str, threads: int, present: Collection[str], *, offline: bool) -> Choice:
    """The size that is advised for a device (`cpu`, `cuda`, `mps`) and a number of threads on the CPU.

    present: sizes whose weights are on this machine. offline: nothing can be fetched, so only those are chosen from. The
    embedded size is what is left where none of the advised ones can be had.
    """
    machine = DEVICES.get(device, f"a CPU with {threads} thread{'s' * (threads > 1)}")
    ranked = sorted(((advice, name) for name, size in SIZES.items() for advice in size.advised
                     if advice.device == device and advice.threads <= threads),
                    key=lambda entry: (entry[0].order, -entry[0].threads))
    missing: dict[str, None] = {}
    for advice, name in ranked:
        if name in present or not offline:
            side = advice.image_size or SIZES[name].image_size
            return Choice(name, advice.image_size, f"{name} at {side} pixels is advised for {machine}" + _without(missing))
        missing[name] = None
    return Choice(DEFAULT_SIZE, None, f"{DEFAULT_SIZE}, the embedded model, for {machine}" + _without(missing))


def _without(missing: Collection[str]) -> str:
    """What was passed over."""
    return f"; weights of {', '.join(missing)} are not on this machine, and HF_HUB_OFFLINE is set" if missing else ""
