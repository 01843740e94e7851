"""The colours that objects have unless somebody chose others."""

from __future__ import annotations

# The first seven were chosen to stay apart for colour-blind readers too (Okabe and Ito, 2008). Each of the others is as far as
# it can be, in CIELAB, from all before it, and neither nearly black nor white nor grey.
_HEX = """
56b4e9 e69f00 009e73 cc79a7 f0e442 0072b2 d55e00 0000ff 00ff00 ff00dd eeddbb 664422 ff0066 0066ff 99ff88 778822
881188 00ffff 115555 aa99ff 992233 009900 ff9988 aa44ff ff0022 ffddff aaee00 ee44aa 005511 554466 bb8844 778866
00ffbb aaeebb 444499 ee77ff 66bbbb ddee88 881155 aa0000 ee5555 6633bb 88bb22 00dd44 ffaaff 77bb66 aa6666 8888aa
0088ff 994411 2244ff ffcc77 ddaaaa ee6688 bbeeff ff9955 aa00bb aa66bb 11ddff 22cc66 bbbb77 aa9900 9977ff 008833
"""
PALETTE = tuple((int(name[:2], 16), int(name[2:4], 16), int(name[4:], 16)) for name in _HEX.split())


def colour_of(object_id: int) -> tuple[int, int, int]:
    """The RGB colour of an object, the same in every picture."""
    return PALETTE[(object_id - 1) % len(PALETTE)]


def to_hex(colour: tuple[int, int, int]) -> str:
    """RGB as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
