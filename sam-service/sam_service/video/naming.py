"""Which files of a collection are its frames, and in which order, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from sam_service.errors import InvalidInput, NotAVideo
from sam_service.video.source import PICTURE_SUFFIXES, is_picture

_OTHER_SUFFIXES = (".avif", ".dpx", ".exr", ".heic", ".heif", ".jp2", ".pgm", ".ppm", ".tga")
_NUMBER = re.compile(r"((?<![^\W_])-\d+|\d+)")  # a minus behind a letter or a digit joins words
_Place = tuple[str, ...]  # of a number in a name: the texts in front of it
_CONVERT = "ffmpeg -i INPUT{} OUTPUT.png"


def may_be_frame(name: str) -> bool:
    """Whether a file is a picture by its name, of a kind that is accepted or of another."""
    return is_picture(name, PICTURE_SUFFIXES + _OTHER_SUFFIXES)


def frames_of(names: Iterable[str]) -> list[str]:
    """The names of the frames in natural order. Other files are passed over, but none that could be a frame.

    Raises:
        NotAVideo: there is no frame.
        InvalidInput: pictures of a kind that is not accepted (code `unknown_pictures`), or two kinds of one name (code
            `two_of_a_name`).
    """
    names = list(names)
    other = min((name for name in names if is_picture(name, _OTHER_SUFFIXES)), default=None)
    if other is not None:
        suffix = PurePosixPath(other).suffix
        raise InvalidInput(f"{shown(other)} is a picture of a kind that is not accepted: wanted are "
                           f"{', '.join(PICTURE_SUFFIXES)}; convert all with `{_CONVERT.format(suffix)}`",
                           code="unknown_pictures")
    frames = in_order(filter(is_picture, names))
    if not frames:
        raise NotAVideo(f"there is no picture in it: a clip's frames are files named {', '.join(PICTURE_SUFFIXES)}")
    stems: dict[str, str] = {}
    for name in frames:
        twin = stems.setdefault(str(PurePosixPath(name).with_suffix("")).casefold(), name)
        if twin is not name:
            raise InvalidInput(f"{shown(twin)} and {shown(name)} have one name: are both frames, or is one a mask? A clip's "
                               "folder holds its frames only", code="two_of_a_name")
    return frames


def in_order(names: Iterable[str]) -> list[str]:
    """Names in natural order: `img2` before `img10`, and `-2` before `-1` before `0`.

    A minus is a sign only where other names have a number without one: among `shot -1`, `shot -2` it is a dash.
    """
    parts = {name: _NUMBER.split(name.casefold()) for name in names}
    signs: dict[_Place, set[bool]] = {}
    for split in parts.values():
        for at in range(1, len(split), 2):
            signs.setdefault(tuple(split[:at:2]), set()).add(split[at].startswith("-"))
    signed = {place for place, found in signs.items() if len(found) == 2}
    return sorted(parts, key=lambda name: (_key(parts[name], signed), name))


def _key(parts: list[str], signed: set[_Place]) -> list[tuple[int, int, str]]:
    """What a name is sorted by. parts: texts and numbers by turns; signed: the places where a minus is a sign."""
    key = []
    for at, part in enumerate(parts):
        if not at % 2:
            key += [(1, 0, part)] if part else []
        elif part.startswith("-") and tuple(parts[:at:2]) not in signed:
            key += [(1, 0, "-"), (0, int(part[1:]), "")]
        else:
            key.append((0, int(part), ""))
    return key


def shown(name: str) -> str:
    """A file's name as an answer shows it: printable, and not too long."""
    return "".join(character if character.isprintable() else "?" for character in name[-100:])
