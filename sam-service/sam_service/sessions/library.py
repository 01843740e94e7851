"""The videos in the service's video folder: a list of them, and a small picture of each."""

from __future__ import annotations

import asyncio
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sam_service.errors import ClientError, NotAVideo, ServiceError, TooLarge
from sam_service.sessions.paths import resolve_video
from sam_service.sessions.pools import Pools
from sam_service.video.cover import cover
from sam_service.video.limits import VideoLimits
from sam_service.video.source import container_of, holds_pictures, open_source

MAX_LISTED, MAX_LOOKED_AT, MAX_DEPTH = 500, 5000, 4
COVER_PX, COVERS_KEPT = 320, 256
COVER_CPU_S, COVER_SILENCE_S = 10, 15.0


@dataclass(frozen=True, slots=True)
class LibraryVideo:
    """A video file, or a folder of pictures. path: relative to the video folder; modified_at: seconds since 1970."""

    path: str
    size_bytes: int
    modified_at: float
    is_folder: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """Videos by path. complete: whether these are all. is_open: whether there is a video folder at all."""

    videos: list[LibraryVideo]
    complete: bool
    is_open: bool


class Library:
    """The videos of one folder, which is None where the service has none. Belongs to one event loop."""

    def __init__(self, folder: Path | None, limits: VideoLimits, pools: Pools) -> None:
        self._folder = folder
        self._limits = replace(limits, max_frame_cpu_s=COVER_CPU_S, max_silence_s=COVER_SILENCE_S)
        self._pools = pools
        self._covers: OrderedDict[tuple[str, float, int], bytes | ClientError] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()
        self._listing: asyncio.Future[Listing] | None = None
        self._sample: bytes | None = None
        self._drawing = asyncio.Lock()

    async def list(self) -> Listing:
        """What there is, at most MAX_LISTED videos, MAX_DEPTH folders deep. Links and hidden files are not listed.

        Who asks while a list is being made gets that one.
        """
        folder = self._folder
        if folder is None:
            return Listing([], True, False)
        if self._listing is None or self._listing.done():  # many may ask: opening videos must not wait for them
            self._listing = asyncio.ensure_future(self._pools.opening.run(lambda: _listing(folder)))
        return await asyncio.shield(self._listing)

    async def cover(self, video_path: str) -> bytes:
        """The first picture as JPEG, at most COVER_PX a side. Raises as `resolve_video` and `cover`."""
        path, key = await asyncio.to_thread(self._found, video_path)
        if key not in self._covers:
            async with self._one_at_a_time:  # a page asks for many; opening videos must not wait for them
                if key not in self._covers:
                    self._covers[key] = await self._pools.opening.run(lambda: self._drawn(path))
        found = self._covers[key]
        self._covers.move_to_end(key)
        while len(self._covers) > COVERS_KEPT:
            self._covers.popitem(last=False)
        if isinstance(found, ClientError):
            raise type(found)(found.message, field=found.field, code=found.code)
        return found

    def _drawn(self, path: Path) -> bytes | ClientError:
        """A cover, or why the file has none: it need not be decoded again for that. Raises what may pass."""
        try:
            return cover(path, self._limits, COVER_PX)
        except (NotAVideo, TooLarge) as error:
            return type(error)(error.message, field=error.field, code=error.code)  # without what it was raised from

    async def sample(self, draw: Callable[[], bytes]) -> bytes:
        """The bytes of the sample clip, which is drawn once, however many ask. draw: blocks, and raises what this raises."""
        async with self._drawing:
            if self._sample is None:
                self._sample = await self._pools.opening.run(draw)
            return self._sample

    def _found(self, video_path: str) -> tuple[Path, tuple[str, float, int]]:
        path = resolve_video(self._folder, video_path)
        found = path.stat()
        return path, (str(path), found.st_mtime, found.st_size)


def _listing(root: Path) -> Listing:
    videos: list[LibraryVideo] = []
    complete = True
    for looked_at, path in enumerate(_entries(root.resolve(), MAX_DEPTH)):
        if looked_at >= MAX_LOOKED_AT or len(videos) >= MAX_LISTED:
            complete = False
            break
        found = _video(path, root.resolve())
        if found is not None:
            videos.append(found)
    return Listing(sorted(videos, key=lambda video: video.path.lower()), complete, True)


def _entries(folder: Path, depth: int) -> Iterator[Path]:
    """Files and folders below `folder`, without links and hidden ones. A folder that cannot be read is passed over."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name.lower())
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        yield Path(entry.path)
        if depth > 0 and entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), depth - 1)


def _video(path: Path, root: Path) -> LibraryVideo | None:
    """What the page shows of a file or folder; None where it is no video."""
    try:
        name = str(path.relative_to(root))
        name.encode()
        found = path.stat()
        is_folder = stat.S_ISDIR(found.st_mode)
        if is_folder:
            return LibraryVideo(name, 0, found.st_mtime, True) if holds_pictures(path) else None
        descriptor = open_source(path)
        try:
            container_of(descriptor)
        finally:
            os.close(descriptor)
        return LibraryVideo(name, found.st_size, found.st_mtime, False)
    except (OSError, ServiceError, UnicodeEncodeError):
        return None
