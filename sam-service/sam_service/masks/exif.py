"""What EXIF data say about how a picture lies. A mask has to lie as its pixels do, or its meaning depends on the reader."""

from __future__ import annotations

import struct

from sam_service.errors import InvalidInput

HEAD = b"Exif\0\0"  # in front of the data in a JPEG's segment
_ORDERS = {b"II": "<", b"MM": ">"}
_ORIENTATION, _TURNED = 0x0112, range(2, 9)
_MOST_ENTRIES = 1000


def require_upright(exif: bytes) -> None:
    """Raise InvalidInput (field `mask`) where EXIF data, without `HEAD`, say that the picture is to be turned or mirrored."""
    orientation = _orientation(exif)
    if orientation in _TURNED:
        raise InvalidInput(f"the mask's EXIF data turn or mirror it (orientation {orientation}), and not every program heeds "
                           "that; save it as it is meant, without EXIF", field="mask")


def _orientation(exif: bytes) -> int:
    """EXIF's number for how the picture lies, 1 where it says nothing or is damaged."""
    order = _ORDERS.get(exif[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, at)
        for entry in range(min(count, _MOST_ENTRIES)):
            tag, value = struct.unpack_from(f"{order}H6xH", exif, at + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:
        pass
    return 1
