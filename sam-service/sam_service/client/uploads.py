"""What a clip is uploaded from: a file as it is; a folder or a list of pictures as an archive, made on the way."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from sam_service.client.errors import InvalidArgument

Place = str | os.PathLike[str]
Video = Place | IO[bytes] | Sequence[Place]
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_REFUSED = (".avif", ".dpx", ".exr", ".heic", ".heif", ".jp2", ".pgm", ".ppm", ".tga")


@contextlib.contextmanager
def opened(video: Video) -> Iterator[tuple[str, IO[bytes]]]:
    """The name and the open file to upload. Raises OSError, InvalidArgument for a folder or a list without pictures."""
    if isinstance(video, str | os.PathLike):
        path = Path(video)
        if path.is_dir():
            files = [item for item in path.iterdir() if item.is_file() and not item.name.startswith(".")]
            found = sorted(item for item in files if item.suffix.lower() in PICTURES)
            refused = min((item.name for item in files if item.suffix.lower() in _REFUSED), default=None)
            if refused is not None:
                raise InvalidArgument("video", f"is the folder {path}, in which {refused} is of a kind that is not accepted: "
                                               f"wanted are {', '.join(PICTURES)}")
            if not found:
                raise InvalidArgument("video", f"is the folder {path}, which has no picture ({', '.join(PICTURES)})")
            with _archive({item.name: item for item in found}) as file:
                yield f"{path.resolve().name or 'pictures'}.zip", file
        else:
            with path.open("rb") as file:
                yield path.name, file
    elif isinstance(video, Sequence):
        if not video:
            raise InvalidArgument("video", "is an empty list; wanted are the paths of pictures")
        pictures = [Path(item) for item in video]
        with _archive({f"{number:06d}_{item.name}": item for number, item in enumerate(pictures)}) as file:
            yield f"{pictures[0].resolve().parent.name or 'pictures'}.zip", file
    else:
        yield Path(str(getattr(video, "name", "video"))).name, video


@contextlib.contextmanager
def _archive(pictures: dict[str, Path]) -> Iterator[IO[bytes]]:
    """A temporary archive of pictures by their names in it; the service orders them by these, numbers as numbers."""
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, path in pictures.items():
                archive.write(path, name)
        file.seek(0)
        yield file
