"""A video file is opened once, and everything after that asks the descriptor: what was checked is what is decoded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sam_service.errors import NotAVideo, NotFound
from sam_service.video.containers import SNIFF_BYTES, Container, sniff


def open_source(path: Path) -> int:
    """Open the regular file `path` for reading and return its descriptor, which the caller closes.

    No symbolic link is followed, neither in the last part of `path` nor, as the path looks once the file is open,
    anywhere before it: whoever resolved the path and found it inside a folder can rely on that.

    Raises:
        NotFound: (field `video_path`) there is no such file, or it cannot be read.
        NotAVideo: a folder, a device, a pipe or a socket.
    """
    path = path.absolute()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        raise NotFound("the video file cannot be opened", field="video_path") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAVideo("this is no regular file", field="video_path")
        if not _is_real(path, descriptor):
            raise NotFound("the video file cannot be opened: its path holds a link", field="video_path")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def container_of(descriptor: int) -> Container:
    """Return what an open file is by its first bytes; its position stays.

    Raises `NotAVideo`: an empty file (code `empty_file`), or none of the accepted containers.
    """
    head = os.pread(descriptor, SNIFF_BYTES, 0)
    if not head:
        raise NotAVideo("the file is empty", field="video_path", code="empty_file")
    container = sniff(head)
    if container is None:
        accepted = ", ".join(Container)
        raise NotAVideo(f"the file is not one of the accepted containers: {accepted}", field="video_path")
    return container


def _is_real(path: Path, descriptor: int) -> bool:
    """Whether `path` names the open file, and names it without a link."""
    try:
        return os.path.realpath(path) == str(path) and os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False
