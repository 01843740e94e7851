"""The name of a video's file as it is shown in the log, in answers and on pages, whatever a client or the file system says."""

from __future__ import annotations

from sam_service.errors import InvalidInput

MAX_NAME = 200
JOINERS = "\u200c\u200d"  # part of words and of pictures in several scripts
REPLACEMENT = "_"


def shown_name(name: str) -> str:
    """A name without what would change the text around it: control characters, marks of direction, half characters.

    Bytes that are no UTF-8 are read as Latin-1. At most 200 characters.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        name = name.encode("utf-8", "surrogateescape" if _is_escaped(name) else "replace").decode("latin-1")
    spaced = "".join(" " if character.isspace() and character.isprintable() else character for character in name)
    return "".join(character if character.isprintable() or character in JOINERS else REPLACEMENT
                   for character in spaced).strip()[:MAX_NAME]


def check_file_name(name: str) -> str:
    """The last part of a file name that a client gave, as it is shown. Raises InvalidInput where nothing of it remains."""
    shown = shown_name(name.replace("\\", "/").rsplit("/", 1)[-1].strip())
    if not shown:
        raise InvalidInput("the uploaded file has no name", field="file")
    return shown


def _is_escaped(name: str) -> bool:
    """Whether all half characters of a name stand for bytes, as Python reads them from a file system."""
    return all(not "\ud800" <= character <= "\udfff" or "\udc80" <= character <= "\udcff" for character in name)
