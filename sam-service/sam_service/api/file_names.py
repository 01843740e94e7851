"""The file name of a form's part, in the ways that browsers, libraries and old programs write it."""

from __future__ import annotations

import email.errors
import email.header
import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

_EXTENDED = re.compile(rb"""(?:^|;)[ \t]*filename\*[ \t]*=[ \t]*"?([\w.-]*)'[\w-]*'([^;"\s]*)""", re.IGNORECASE)
_ENCODED_WORDS = re.compile(r"(?:=\?[\w.-]+\?[bq]\?[^?]*\?=\s*)+", re.IGNORECASE)
_BROWSERS = {"%22": '"', "%0A": "\n", "%0D": "\r"}  # all that a browser escapes


def file_name(disposition: bytes, options: Mapping[bytes, bytes]) -> str | None:
    """The name that `Content-Disposition` gives, with `options` as its parameters; None where it gives none.

    `filename*` (RFC 5987) goes before `filename`, which may be in UTF-8, in Latin-1 or in encoded words (RFC 2047).
    """
    extended = _EXTENDED.search(disposition)
    if extended is not None:
        found = _decoded(unquote_to_bytes(extended[2]), extended[1].decode("ascii", "replace"))
        if found:
            return found
    plain = options.get(b"filename")
    if plain is None:
        return None if extended is None else ""
    text = _decoded(plain, "utf-8")
    if _ENCODED_WORDS.fullmatch(text):
        return _from_encoded_words(text)
    for escape, character in _BROWSERS.items():
        text = text.replace(escape, character)
    return text


def _decoded(raw: bytes, charset: str) -> str:
    try:
        return raw.decode("latin-1" if charset.lower() in ("iso-8859-1", "latin-1") else "utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _from_encoded_words(text: str) -> str:
    try:
        return str(email.header.make_header(email.header.decode_header(text)))
    except (LookupError, ValueError, email.errors.HeaderParseError):
        return text
