"""Parts of a file (RFC 9110, section 14): which bytes a client asks for."""

from __future__ import annotations

import re

from starlette.datastructures import Headers

_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def wanted_range(headers: Headers, etag: str) -> tuple[int | None, int | None] | None:
    """First and last byte of the one range that is asked for, the last one inclusive: (None, n) are the last n bytes, (n, None)
    all from n on. None where the whole file is to be sent: no range, several, one that cannot be read, or an `If-Range` that
    names another version of the file."""
    found = _ONE_RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if found is None or headers.get("if-range", etag) != etag:
        return None
    first, last = (int(text) if text else None for text in found.groups())
    if first is None and last is None or first is not None and last is not None and last < first:
        return None
    return first, last


def within(wanted: tuple[int | None, int | None], size: int) -> range | None:
    """The bytes of a file of `size` bytes that a range means; None where it has none of them."""
    first, last = wanted
    if first is None:
        assert last is not None
        start, end = max(0, size - last), size
    else:
        start, end = first, size if last is None else min(last + 1, size)
    return range(start, end) if start < end else None
