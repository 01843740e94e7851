"""What there is to open: the videos of the service's folder, and a clip for those who have none at hand."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from sam_service.api import views
from sam_service.api.deps import ServicesDep
from sam_service.api.problems import documented
from sam_service.demo_clip import render_clip
from sam_service.failures import disk_full, is_disk_full
from sam_service.schemas import Initialized, Library, LibraryVideo
from sam_service.sessions.folder import SAMPLE_SUFFIX, UPLOAD_PREFIX
from sam_service.sessions.service import OpenOptions

router = APIRouter(tags=["sessions"])
SAMPLE_NAME = "sample.mp4"
VideoPath = Annotated[str, Query(max_length=4096, description="path inside the video folder, as `/videos` lists it",
                                 examples=["clips/cups.mp4"])]


@router.get("/videos", summary="The videos in the video folder")
async def videos(services: ServicesDep) -> Library:
    """Videos and folders of pictures that `/initialize` takes by path, at most 500. Links and hidden files are left out."""
    found = await services.library.list()
    listed = [LibraryVideo(video_path=video.path, size_bytes=video.size_bytes, modified_at=video.modified_at,
                           is_folder=video.is_folder) for video in found.videos]
    return Library(enabled=found.is_open, complete=found.complete, videos=listed)


@router.get("/videos/picture", summary="A video's first picture", response_class=Response, responses={
    **documented(415), 200: {"content": {"image/jpeg": {}}, "description": "JPEG, at most 320 pixels a side"}})
async def picture(video_path: VideoPath, services: ServicesDep) -> Response:
    """The first picture of a video in the folder, small, to choose it by."""
    data = await services.library.cover(video_path)
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=60"})


@router.post("/sample", status_code=201, summary="Open a sample clip", responses=documented(429))
async def sample(response: Response, services: ServicesDep) -> Initialized:
    """Draw a clip of three seconds, a ball that bounces over a meadow, and open it. Answers as `/initialize` does."""
    services.engine.require_ready()
    services.sessions.require_place()
    folder = services.settings.sam2_data_dir
    clip = await services.library.sample(lambda: _drawn(folder))
    services.sessions.require_place()  # others may have come while it was drawn
    path = await asyncio.to_thread(_stored, folder, clip)
    try:
        session = await services.sessions.open(SAMPLE_NAME, OpenOptions(), upload=path)
    finally:
        path.unlink(missing_ok=True)
    response.headers["x-session-id"] = session.session_id
    return views.initialized(services, session)


def _drawn(folder: Path) -> bytes:
    """The clip as the bytes of its file. Blocks for a second or more. Raises StorageFull."""
    path = _stored(folder, b"")
    try:
        with _full_disk_understood():
            return render_clip(path).read_bytes()
    finally:
        path.unlink(missing_ok=True)


def _stored(folder: Path, clip: bytes) -> Path:
    """A file in the data folder, under a name that a later start sweeps away. Raises StorageFull."""
    with _full_disk_understood():
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=UPLOAD_PREFIX, suffix=SAMPLE_SUFFIX)
        try:
            with open(descriptor, "wb") as file:
                file.write(clip)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name)


@contextlib.contextmanager
def _full_disk_understood() -> Iterator[None]:
    """Raise StorageFull for a full disk."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full() from None
        raise
