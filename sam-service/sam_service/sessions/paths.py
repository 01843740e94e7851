"""A path that a client names, held inside the one folder that clients may read videos from."""

from __future__ import annotations

from pathlib import Path

from sam_service.errors import InvalidInput, NotFound
from sam_service.video.source import holds_pictures

FIELD = "video_path"
MAX_LENGTH = 1024


def resolve_video(folder: Path | None, given: str) -> Path:
    """The real path of a video, or a folder of pictures, inside `folder`, with every symbolic link followed before the check.

    `video/source.py` looks again when the file is open: the path may have changed by then. Raises InvalidInput for a path
    outside the folder or one that cannot be a path, NotFound where there is no file.
    """
    if folder is None:
        raise InvalidInput("this service reads no videos by path (SAM2_VIDEO_DIR is not set); upload the file as the "
                           "multipart field `file`", field=FIELD, code="video_path_disabled")
    if not given or "\0" in given:
        raise InvalidInput("`video_path` is empty or holds a NUL character", field=FIELD)
    if len(given) > MAX_LENGTH:
        raise InvalidInput(f"`video_path` has {len(given)} characters; the limit is {MAX_LENGTH}", field=FIELD)
    root = folder.resolve()
    try:
        path = (root / given).resolve()
        inside = path.is_relative_to(root)
        found = inside and (path.is_file() or (path.is_dir() and holds_pictures(path)))
    except (OSError, RuntimeError, ValueError):
        raise InvalidInput("`video_path` is not a usable path", field=FIELD) from None
    if not inside:
        raise InvalidInput("`video_path` lies outside the service's video folder", field=FIELD, code="path_outside")
    if not found:
        raise NotFound("there is no such file, or folder of pictures, in the service's video folder", field=FIELD)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InvalidInput("the file that `video_path` leads to has a name that is not UTF-8; rename it, or upload the file",
                           field=FIELD) from None
    return path
