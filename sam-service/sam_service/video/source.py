"""A video file is opened once, and everything after that asks the descriptor: what was checked is what is decoded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sam_service.errors import NotAVideo, NotFound
from sam_service.video.codecs import CONVERT
from sam_service.video.containers import SNIFF_BYTES, Container, name_of, sniff

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_UNSEEN = ("__macosx", ".")  # folders and files that archivers and systems leave behind


def open_source(path: Path) -> int:
    """Open the regular file, or the folder of pictures, `path` for reading and return its descriptor, which the caller closes.

    No symbolic link is followed, neither in the last part of `path` nor, as the path looks once the file is open,
    anywhere before it: whoever resolved the path and found it inside a folder can rely on that.

    Raises:
        NotFound: there is no such file, or it cannot be read.
        NotAVideo: a device, a pipe or a socket.
    """
    path = path.absolute()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        raise NotFound("the video file cannot be opened") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise NotAVideo("this is neither a regular file nor a folder")
        if not _is_real(path, descriptor):
            raise NotFound("the video file cannot be opened: its path holds a link")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def container_of(descriptor: int) -> Container:
    """Return what an open file is by its first bytes, or that it is a folder; its position stays.

    Raises `NotAVideo`: an empty file (code `empty_file`), or none of the accepted containers.
    """
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return Container.FOLDER
    head = os.pread(descriptor, SNIFF_BYTES, 0)
    if not head:
        raise NotAVideo("the file is empty", code="empty_file")
    container = sniff(head)
    if container is None:
        accepted, found = ", ".join(Container), name_of(head)
        is_what = f"the file is {found}; accepted are" if found else "the file is not one of the accepted containers:"
        raise NotAVideo(f"{is_what} {accepted}; if it is a video, convert it with `{CONVERT}`")
    return container


def holds_pictures(folder: Path) -> bool:
    """Whether a file in `folder` is named as a picture is. Raises OSError."""
    with os.scandir(folder) as entries:
        return any(is_picture(entry.name) for entry in entries)


def is_picture(name: str, suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> bool:
    """Whether a file is a frame of a clip, by its name; its content is checked when it is decoded."""
    parts = name.lower().split("/")
    return parts[-1].endswith(suffixes) and not any(part.startswith(_UNSEEN) for part in parts)


def _is_real(path: Path, descriptor: int) -> bool:
    """Whether `path` names the open file, and names it without a link."""
    try:
        return os.path.realpath(path) == str(path) and os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False
