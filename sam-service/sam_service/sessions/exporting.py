"""The use case around exports: check what is asked for, then make the file a piece at a time, off the event loop."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Literal

from sam_service import __version__
from sam_service.errors import CapacityError, ClientError, Conflict, FrameUnreadable, InvalidInput, NotFound, NotReady
from sam_service.export.clip import Clip, ExportedMask, ExportedObject, Look, Masks, Options, Segmentation, Size
from sam_service.export.formats import FORMATS, FormatName, OptionName, file_name, formats_with
from sam_service.export.pictures import SessionPictures, SourcePictures
from sam_service.sessions.events import ExportProgress
from sam_service.sessions.service import SessionService
from sam_service.sessions.session import Session
from sam_service.sessions.store import MaskSnapshot
from sam_service.video.limits import VideoLimits
from sam_service.video.writer import has_h264

MAX_EXPORTS = 16
THREADS = 2
MAX_FEATHER_PX = 100.0
PUBLISH_INTERVAL_S, GONE_INTERVAL_S = 0.2, 1.0
State = Literal["running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export; None is all there is. feather: width of a cut-out's soft edge, pixels; segmentation: of COCO's masks;
    look and opacity: of a video, as `Options` has them."""

    format: FormatName
    size: Size = "session"
    start_frame: int | None = None
    end_frame: int | None = None
    object_ids: Sequence[int] | None = None
    images: bool = False
    feather: float = 0.0
    segmentation: Segmentation = "rle"
    look: Look = "tint"
    opacity: float | None = None


class Exporting:
    """Exports of the sessions of one service."""

    def __init__(self, sessions: SessionService) -> None:
        self.sessions = sessions
        self.threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="export")
        self.exports: set[Export] = set()
        self._starting = 0
        self.stopping = False

    async def start(self, session_id: str, request: ExportRequest) -> Export:
        """Begin an export, which has to be closed. It is of the masks stored now, whatever is computed meanwhile.

        Raises InvalidInput for a range or options that make no sense, NotFound for unknown objects and frames, Conflict
        where nothing is stored, CapacityError.
        """
        session = self.sessions.get(session_id)
        _check_options(request)
        if request.format == "mp4" and not await self.sessions.pools.rendering.run(has_h264):
            raise InvalidInput("this service has no H.264 encoder; choose webm", field="format", code="no_encoder")
        if FORMATS[request.format].needs_disk:
            self.sessions.require_room()
        chosen = tuple(session.prompts) if request.object_ids is None else tuple(dict.fromkeys(request.object_ids))
        for object_id in chosen:
            session.require_object(object_id, "object_ids")
        first, last = await self._range(session, request)
        if len(self.exports) + self._starting >= MAX_EXPORTS:
            raise CapacityError(f"{MAX_EXPORTS} exports are being made; come back later", code="too_many_exports")
        self._starting += 1  # others ask while the database is read
        try:
            snapshot = await self.sessions.pools.rendering.run(
                lambda: _snapshot(self.sessions, session, first, last, set(chosen)))
        finally:
            self._starting -= 1
        sources: list[SourcePictures] = []
        clip = _clip(session, request, chosen, first, last, snapshot, functools.partial(
            _pictures, session, request.size == "original", self.sessions.limits.video, sources))
        return Export(self, session, request, clip, snapshot, sources)

    def begin_stop(self) -> None:
        """End all exports at their next piece, and decoding for one at once: the process is about to end."""
        self.stopping = True
        for export in self.exports:
            export.stop_decoding()

    def close(self) -> None:
        """Wait for the pieces in work; no more are made."""
        self.begin_stop()
        self.threads.shutdown(cancel_futures=True)

    async def _range(self, session: Session, request: ExportRequest) -> tuple[int, int]:
        """The first and the last frame. Waits for a frame that is asked for; else the clip ends where it is extracted to."""
        for field in ("start_frame", "end_frame"):
            frame = getattr(request, field)
            if frame is not None:
                try:
                    await self.sessions.require_frame(session, frame)
                except NotFound as error:
                    raise NotFound(error.message, field=field) from None
        first = session.frames.first if request.start_frame is None else request.start_frame
        last = session.frames.frames_ready - 1 if request.end_frame is None else request.end_frame
        if last < first:
            raise InvalidInput(f"end_frame {last} lies before start_frame {first}", field="end_frame")
        return first, last


class Export:
    """One export. `begin` makes its first piece, so that what is wrong is known before an answer starts; `pieces` are all of
    them. `close`, which has to be called whatever happened, frees all it holds."""

    def __init__(self, exporting: Exporting, session: Session, request: ExportRequest, clip: Clip,
                 snapshot: MaskSnapshot, sources: list[SourcePictures]) -> None:
        form = FORMATS[request.format]
        self.media_type = form.media_type
        self.file_name = file_name(session.record.video_name, request.format)
        self._exporting, self._session, self._format = exporting, session, request.format
        self._request = request
        self._clip, self._snapshot, self._sources = clip, snapshot, sources
        options = Options(request.images, request.feather, request.segmentation, request.look, request.opacity)
        self._making: Generator[bytes, None, None] = form.write(clip, options)
        self._one_at_a_time = threading.Lock()
        self._begun = b""
        self._state: State = "running"
        self._closed = False
        self._published_at = 0.0
        exporting.exports.add(self)

    async def begin(self, is_gone: Callable[[], Awaitable[bool]]) -> None:
        """Make the first piece that is not empty. Raises what went wrong, ClientError where `is_gone` says the client is."""
        self._publish()
        while self._state == "running" and not self._begun:
            step = asyncio.ensure_future(self._next())
            try:
                while not step.done():
                    await asyncio.wait([step], timeout=GONE_INTERVAL_S)
                    if await is_gone():
                        raise ClientError("the client went away", code="client_gone")
            except BaseException:
                self.stop_decoding()
                step.cancel()
                raise
            self._begun = step.result()

    async def pieces(self) -> AsyncIterator[bytes]:
        """All pieces, none of them empty, as they are made."""
        yield self._begun
        self._begun = b""
        while self._state == "running":
            piece = await self._next()
            if piece:
                yield piece

    async def fingerprint(self) -> str:
        """A name for the file, another one for each state of the session: 32 hexadecimal digits. Raises NotReady."""
        if self._exporting.stopping:
            raise NotReady("the service is stopping", code="stopping")
        return await asyncio.get_running_loop().run_in_executor(self._exporting.threads, self._digest)

    async def spool(self, is_gone: Callable[[], Awaitable[bool]]) -> IO[bytes]:
        """Make all of it and write it to a file without a name, which is the caller's to close. Raises as `begin` does."""
        await self.begin(is_gone)
        whole = tempfile.TemporaryFile(dir=self._session.folder)  # noqa: SIM115 - it is handed on
        try:
            async for piece in self.pieces():
                self._exporting.sessions.require_room()
                await asyncio.get_running_loop().run_in_executor(self._exporting.threads, whole.write, piece)
                if await is_gone():
                    raise ClientError("the client went away", code="client_gone")
        except BaseException:
            whole.close()
            raise
        return whole

    def close(self) -> None:
        """Stop, and free everything: at once, or when the piece in work is made. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._state == "running":
            self._state = "cancelled"
        self._publish()
        self.stop_decoding()
        self._exporting.exports.discard(self)
        try:
            self._exporting.threads.submit(self._free)
        except RuntimeError:  # the service stops, and its threads have ended
            self._free()

    def stop_decoding(self) -> None:
        """End what decodes the source video for this export; a piece that waits for a picture of it fails."""
        for source in tuple(self._sources):
            source.cancel()

    async def _next(self) -> bytes:
        """The next piece, maybe empty. Counts as a use of the session; one that was deleted ends the export."""
        sessions, session_id = self._exporting.sessions, self._session.session_id
        try:
            if self._exporting.stopping:
                raise NotReady("the service is stopping", code="stopping")
            sessions.get(session_id)
            piece = await asyncio.get_running_loop().run_in_executor(self._exporting.threads, self._step)
        except Exception as error:
            self._state = "failed"
            if self._exporting.stopping:
                raise NotReady("the service is stopping", code="stopping") from error
            if isinstance(error, FrameUnreadable):
                sessions.get(session_id)  # deleted while it was read: then there is no such session
            raise
        if piece is None:
            self._state = "done"
        elif asyncio.get_running_loop().time() - self._published_at >= PUBLISH_INTERVAL_S:
            self._publish()
        return piece or b""

    def _step(self) -> bytes | None:
        with self._one_at_a_time:
            return next(self._making, None)

    def _digest(self) -> str:
        digest = hashlib.sha256(repr((__version__, self._clip.session_id, self._request, self._clip.objects)).encode())
        with self._one_at_a_time:
            for mask in self._snapshot.masks(self._clip.first, self._clip.last):
                digest.update(repr((mask.frame_index, mask.object_id, mask.counts, mask.score, mask.object_score)).encode())
        return digest.hexdigest()[:32]

    def _free(self) -> None:
        with self._one_at_a_time:
            try:
                self._making.close()
            finally:
                self._snapshot.close()

    def _publish(self) -> None:
        self._published_at = asyncio.get_running_loop().time()
        self._session.events.publish(ExportProgress(self._format, self._clip.done, self._clip.num_frames, self._state))


def _check_options(request: ExportRequest) -> None:
    given: dict[OptionName, bool] = {"images": request.images, "feather": request.feather != 0,
                                     "segmentation": request.segmentation != "rle", "look": request.look != "tint",
                                     "opacity": request.opacity is not None}
    for option, is_given in given.items():
        if is_given and option not in FORMATS[request.format].takes:
            raise InvalidInput(f"{option} means something to {formats_with(option)} only", field=option)
    if not 0 <= request.feather <= MAX_FEATHER_PX:
        raise InvalidInput(f"feather goes from 0 to {MAX_FEATHER_PX:g} pixels", field="feather")
    if request.opacity is not None and not 0 <= request.opacity <= 1:
        raise InvalidInput("opacity goes from 0 to 1", field="opacity")


def _snapshot(sessions: SessionService, session: Session, first: int, last: int, chosen: set[int]) -> MaskSnapshot:
    """The masks that are stored now. Raises Conflict where none of the range and the chosen objects is."""
    snapshot = sessions.store.snapshot(session.session_id)
    try:
        if not any(mask.object_id in chosen for mask in snapshot.masks(first, last)):
            raise Conflict("there is nothing to export: no mask is stored for these objects and frames; propagate first",
                           code="nothing_to_export")
    except BaseException:
        snapshot.close()
        raise
    return snapshot


def _clip(session: Session, request: ExportRequest, chosen: Sequence[int], first: int, last: int,
          snapshot: MaskSnapshot, open_pictures: Callable[[], SessionPictures | SourcePictures]) -> Clip:
    manifest = session.frames.manifest
    original = request.size == "original"
    width, height = (manifest.original_width, manifest.original_height) if original else session.size
    begin = session.frames.first
    timestamps = session.frames.timestamps_s()[first - begin: last + 1 - begin]
    return Clip(
        session_id=session.session_id, video_name=session.record.video_name, width=width, height=height,
        fps=_rate(timestamps, manifest.fps / manifest.options.frame_stride), first=first, last=last, timestamps_s=timestamps,
        objects=tuple(_object(session, object_id) for object_id in chosen),
        stored_masks=functools.partial(_stored_masks, snapshot, first, last, chosen),
        open_pictures=open_pictures, folder=session.folder)


def _rate(timestamps_s: Sequence[float], nominal: float) -> float:
    """Frames a second on the average; there may be one an hour."""
    seconds = timestamps_s[-1] - timestamps_s[0]
    return float(f"{(len(timestamps_s) - 1) / seconds:.6g}") if seconds > 0 else nominal


def _object(session: Session, object_id: int) -> ExportedObject:
    label = session.label(object_id)
    red, green, blue = bytes.fromhex(label.color[1:])
    return ExportedObject(object_id, label.name, (red, green, blue))


def _stored_masks(snapshot: MaskSnapshot, first: int, last: int, chosen: Sequence[int]) -> Iterator[tuple[int, Masks]]:
    wanted = set(chosen)
    for index, records in groupby(snapshot.masks(first, last), key=lambda record: record.frame_index):
        masks = tuple(ExportedMask(record.object_id, record.height, record.width, record.counts, record.score,
                                   record.object_score) for record in records if record.object_id in wanted)
        if masks:
            yield index, masks


def _pictures(session: Session, original: bool, limits: VideoLimits,
              sources: list[SourcePictures]) -> SessionPictures | SourcePictures:
    """The pictures of an export. What decodes the source video is noted in `sources`."""
    if not original:
        return SessionPictures(session.frames)
    if session.live is not None:
        raise InvalidInput('"original" needs a file; the frames of a live session are there as they were pushed', field="size")
    manifest = session.frames.manifest
    opened = SourcePictures(Path(session.record.source), manifest.original_width, manifest.original_height,
                            session.frames.source_index, stride=manifest.options.frame_stride, fps=manifest.options.fps,
                            limits=limits)
    sources.append(opened)
    return opened
