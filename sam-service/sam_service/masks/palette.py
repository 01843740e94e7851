"""The colours that objects have unless somebody chose others."""

from __future__ import annotations

# RGB, chosen to stay apart for colour-blind readers too (Okabe and Ito, 2008).
PALETTE = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (0, 114, 178), (213, 94, 0))


def colour_of(object_id: int) -> tuple[int, int, int]:
    """The RGB colour of an object, the same in every picture."""
    return PALETTE[(object_id - 1) % len(PALETTE)]


def to_hex(colour: tuple[int, int, int]) -> str:
    """RGB as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
