"""What people call an object, and the colour that they see it in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sam_service.errors import InvalidInput
from sam_service.masks.palette import colour_of, to_hex

MAX_NAME = 80
_HEX = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class Label:
    """An object's name, 1 to 80 characters, and its colour as `#rrggbb`."""

    name: str
    color: str


def default_label(object_id: int) -> Label:
    """The label of an object that nobody named."""
    return Label(f"object {object_id}", to_hex(colour_of(object_id)))


def check_name(name: str) -> str:
    """A name without the white space around it. Raises InvalidInput where it is empty, too long or not printable."""
    shown = " ".join(name.split())
    if not shown or len(shown) > MAX_NAME or not shown.isprintable():
        raise InvalidInput(f"a name has 1 to {MAX_NAME} printable characters", field="name")
    return shown


def check_color(color: str) -> str:
    """A colour in lower case. Raises InvalidInput where it is not `#rrggbb`."""
    lowered = color.lower()
    if not _HEX.fullmatch(lowered):
        raise InvalidInput("a color is #rrggbb, six hexadecimal digits", field="color")
    return lowered
