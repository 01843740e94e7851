"""What a request to propagate means: which objects, and which frames in which order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

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

    def frame_at(self, position: int, num_frames: int | None) -> int:
        """The frame that comes at a position; `num_frames` is None while the clip's length is not known for sure."""
        if self.forward is not None:
            start, stop = self.forward
            end = stop if num_frames is None else min(num_frames, num_frames if stop is None else stop)
            if end is None or start + position < end:
                return start + position
            position -= end - start
        return self.backward[position]

    def to_json(self) -> str:
        """The plan as the store keeps it."""
        return json.dumps({"objects": self.objects, "start": self.start, "forward": self.forward,
                           "backward": [self.backward.start, self.backward.stop, self.backward.step]})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        raw = json.loads(text)
        forward = None if raw["forward"] is None else (raw["forward"][0], raw["forward"][1])
        return cls(tuple(raw["objects"]), raw["start"], forward, range(*raw["backward"]))


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
