"""What a request to propagate means: which objects, and which frames in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sam_service.errors import InvalidInput

Direction = Literal["forward", "backward", "both"]


@dataclass(frozen=True, slots=True)
class PropagationRequest:
    """What to propagate; None is the default of the contract."""

    start_frame: int | None = None
    end_frame: int | None = None
    direction: Direction = "forward"
    object_ids: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Frames in the order of computation: `forward`, where a stop of None is the clip's end, then `backward`."""

    objects: tuple[int, ...]
    start: int
    forward: tuple[int, int | None] | None
    backward: range

    def total(self, num_frames: int) -> int:
        """How many frames this makes in a clip of `num_frames`."""
        ahead = 0
        if self.forward is not None:
            start, stop = self.forward
            ahead = max(0, (num_frames if stop is None else stop) - start)
        return ahead + len(self.backward)


def directed(objects: tuple[int, ...], start: int, end: int | None, direction: Direction) -> Plan:
    """The plan for a direction. `end` bounds the part that goes forward, or the way back where there is no other."""
    match direction:
        case "forward":
            if end is not None and end < start:
                raise InvalidInput(f"end_frame {end} lies before the start, frame {start}; going forward it must not",
                                   field="end_frame")
            return Plan(objects, start, (start, None if end is None else end + 1), range(0))
        case "backward":
            if end is not None and end > start:
                raise InvalidInput(f"end_frame {end} lies after the start, frame {start}; going backward it must not",
                                   field="end_frame")
            return Plan(objects, start, None, range(start, (end or 0) - 1, -1))
        case "both":
            if end is not None and end < start:
                raise InvalidInput(f"end_frame {end} lies before the start, frame {start}; with both directions it bounds "
                                   "the way forward", field="end_frame")
            return Plan(objects, start, (start, None if end is None else end + 1), range(start - 1, -1, -1))
