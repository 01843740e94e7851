"""The grammar of `--point`, `--box` and `--name`, and the prompts that they make together."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from sam_service.client.calls import Prompt

NUMBER = r"\d+(?:\.\d*)?|\.\d+"
POINT = re.compile(rf"(?:(\d+):)?([+-]?)({NUMBER}),({NUMBER})(?:@(\d+))?")
BOX = re.compile(rf"(?:(\d+):)?({NUMBER}),({NUMBER}),({NUMBER}),({NUMBER})(?:@(\d+))?")
NAME = re.compile(r"(\d+)=(.+)")

GRAMMAR = """prompts:
  --point [OBJECT:][-]X,Y[@FRAME]      a click; with a minus, one that is not the object
  --box   [OBJECT:]X0,Y0,X1,Y1[@FRAME]
  OBJECT is a number, 1 if absent; FRAME counts from 0, that of --at if absent. Coordinates are pixels of the
  session's frames (of the video, unless it is wider or taller than 1920), or with --normalized fractions of them.
  The same object may be prompted on several frames. Without OBJECT write --point=-X,Y for a click that is not it.
"""


@dataclass(frozen=True, slots=True)
class PointArgument:
    """A click. frame: None for that of `--at`; label: 1 object, 0 not the object."""

    object_id: int
    frame: int | None
    xy: tuple[float, float]
    label: int


@dataclass(frozen=True, slots=True)
class BoxArgument:
    """A box (x0, y0, x1, y1)."""

    object_id: int
    frame: int | None
    corners: tuple[float, float, float, float]


@dataclass(slots=True)
class PlannedPrompt:
    """What is asked of the service for one object on one frame; `is_new` for the object's first."""

    object_id: int
    is_new: bool
    fields: Prompt = field(default_factory=lambda: cast("Prompt", {}))


def parse_point(text: str) -> PointArgument:
    """`2:-640,360@12`: object 2, not at (640, 360), on frame 12."""
    if not (found := POINT.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"expected [OBJECT:][-]X,Y[@FRAME], such as 640,360 or 2:-500,300@12; got {text!r}")
    object_id, sign, x, y, frame = found.groups()
    return PointArgument(int(object_id or 1), None if frame is None else int(frame), (float(x), float(y)), int(sign != "-"))


def parse_box(text: str) -> BoxArgument:
    """`2:100,80,300,240@12`: object 2 lies in this box on frame 12."""
    if not (found := BOX.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"expected [OBJECT:]X0,Y0,X1,Y1[@FRAME], such as 2:100,80,300,240; got {text!r}")
    object_id, x0, y0, x1, y1, frame = found.groups()
    corners = (float(x0), float(y0), float(x1), float(y1))
    return BoxArgument(int(object_id or 1), None if frame is None else int(frame), corners)


def parse_name(text: str) -> tuple[int, str]:
    """`2=cup`: object 2 is called cup."""
    if not (found := NAME.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"expected OBJECT=NAME, such as 2=cup; got {text!r}")
    return int(found[1]), found[2]


def plan_prompts(points: Sequence[PointArgument], boxes: Sequence[BoxArgument], *, at: int,
                 normalized: bool) -> list[PlannedPrompt]:
    """One prompt for each object and frame, an object's frames in order. Raises ValueError for two boxes in one place."""
    places: dict[tuple[int, int], Prompt] = {}

    def place(argument: PointArgument | BoxArgument) -> Prompt:
        frame = at if argument.frame is None else argument.frame
        return places.setdefault((argument.object_id, frame), {"frame_idx": frame, "normalized": normalized})

    for point in points:
        fields = place(point)
        fields["points"] = [*cast("list[Any]", fields.get("points", [])), point.xy]
        fields["labels"] = [*cast("list[Any]", fields.get("labels", [])), point.label]
    for box in boxes:
        fields = place(box)
        if "box" in fields:
            raise ValueError(f"object {box.object_id} has two boxes on frame {fields['frame_idx']}")
        fields["box"] = box.corners
    planned: list[PlannedPrompt] = []
    for (object_id, _), fields in sorted(places.items(), key=lambda item: item[0]):
        planned.append(PlannedPrompt(object_id, not planned or planned[-1].object_id != object_id, fields))
    return planned


def check_names(names: Mapping[int, str], planned: Sequence[PlannedPrompt]) -> None:
    """Raise ValueError for a name of an object that has no prompt."""
    for object_id in names.keys() - {prompt.object_id for prompt in planned}:
        raise ValueError(f"--name {object_id}={names[object_id]}: object {object_id} has no --point and no --box")
