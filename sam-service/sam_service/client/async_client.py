"""The client for asyncio: the twin of `sync_client.py`, call for call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from sam_service.client import calls, live
from sam_service.client.calls import (
    Call,
    Correction,
    ExportFormat,
    ExportOptions,
    Id,
    NewObject,
    ObjectChanges,
    OpenOptions,
    Range,
)
from sam_service.client.connection import checked_url, connection, named_proxy
from sam_service.client.downloads import Download, Progress
from sam_service.client.errors import NotReady, SamError, Unreachable, raise_for
from sam_service.client.live import LiveFrame, LiveOptions, Picture
from sam_service.client.propagation import PropagationStream
from sam_service.client.results import FrameMasks, Moved, ObjectMask, ObjectState, PropagatedFrame, SessionState, Track
from sam_service.client.retries import Patience, unreachable
from sam_service.client.uploads import Video
from sam_service.defaults import DEFAULT_URL

T = TypeVar("T")


class AsyncSamClient:
    """A connection to a service.

    api_key: sent with every call, that of SAM2_API_KEY if absent; timeout_s: the longest wait for more of an answer;
    max_wait_s: how long a call waits in all for a service that is full, and a propagation for one that is away. The
    environment's proxies are used for other machines, not on loopback. Raises `SamError` and its kinds; `http` is the httpx
    client underneath, for calls that have no method here.
    """

    def __init__(self, base_url: str = DEFAULT_URL, *, api_key: str | None = None, timeout_s: float = 600.0,
                 max_wait_s: float = 60.0) -> None:
        url = checked_url(base_url)
        with named_proxy(url):
            self.http = httpx.AsyncClient(**connection(url, api_key, timeout_s))
        self.max_wait_s = max_wait_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; a propagation that is still read ends with it."""
        await self.http.aclose()

    async def call(self, method: str, path: str, *, json: Mapping[str, Any] | None = None) -> Any:
        """Any call, by hand; its JSON answer."""
        return await self.perform(calls.call(method, path, json))

    async def perform(self, call: Call[T], *, max_wait_s: float | None = None) -> T:
        """Send a call, again where that may help, and return its answer. max_wait_s: another limit for this call."""
        return call.result(await self._send(call, self.max_wait_s if max_wait_s is None else max_wait_s, stream=False))

    @contextlib.asynccontextmanager
    async def stream(self, call: Call[Any]) -> AsyncIterator[httpx.Response]:
        """Send a call whose answer is read piece by piece. Raises Unreachable where the connection breaks meanwhile."""
        response = await self._send(call, self.max_wait_s, stream=True)
        try:
            raise_for(response)
            yield response
        except httpx.TransportError as error:
            raise unreachable(error) from error
        finally:
            await response.aclose()

    async def wait_ready(self, timeout_s: float = 600.0) -> dict[str, Any]:
        """Wait until the model is loaded, and return `/health`. Raises ModelUnavailable, NotReady, Unreachable."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                await self.perform(calls.ready(), max_wait_s=0.0)
                return await self.health()
            except NotReady:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def health(self) -> dict[str, Any]:
        """The state of the service: device, model, threads, queue, memory."""
        return await self.perform(calls.health())

    async def initialize(self, video: Video, **options: Unpack[OpenOptions]) -> AsyncVideoSession:
        """Upload a video and open it; the session is deleted when its `async with` ends.

        video: a path, a binary file, a folder of pictures (JPEG, PNG, WebP, BMP, TIFF) in natural order, or their paths.
        """
        return AsyncVideoSession(self, await self.perform(calls.initialize(video, options)))

    async def initialize_on_server(self, video_path: str, **options: Unpack[OpenOptions]) -> AsyncVideoSession:
        """Open a video that lies in the service's video folder."""
        return AsyncVideoSession(self, await self.perform(calls.initialize_on_server(video_path, options)))

    async def live(self, width: Id, height: Id, **options: Unpack[LiveOptions]) -> AsyncLiveSession:
        """Open a session without a file, to push frames of width x height pixels to; deleted when its `async with` ends."""
        return AsyncLiveSession(self, await self.perform(live.initialize_live(width, height, options)))

    async def sessions(self) -> list[SessionState]:
        """All open sessions, oldest first."""
        return await self.perform(calls.sessions())

    async def session(self, session_id: str) -> AsyncVideoSession:
        """Attach to a session that is open; it is not deleted when its `async with` ends. Without a file it is an
        `AsyncLiveSession`."""
        info = await self.perform(calls.session(session_id))
        return (AsyncLiveSession if info.get("live") else AsyncVideoSession)(self, info, delete_at_exit=False)

    async def _send(self, call: Call[Any], max_wait_s: float, *, stream: bool) -> httpx.Response:
        patience = Patience(max_wait_s, repeatable=call.repeatable)
        while True:
            try:
                with contextlib.ExitStack() as stack:
                    arguments = await asyncio.to_thread(stack.enter_context, call.arguments())
                    request = self.http.build_request(call.method, call.path, **arguments)
                    response = await self.http.send(request, stream=stream)
                if stream and response.is_error:
                    await response.aread()
                pause = patience.after_answer(response)
            except httpx.TransportError as error:
                pause = patience.after_error(error)
            if pause is None:
                return response
            await asyncio.sleep(pause)


class AsyncVideoSession:
    """An open video. info: what `/initialize` or `GET /sessions/{id}` answered; width, height: of its frames, pixels."""

    def __init__(self, client: AsyncSamClient, info: SessionState, *, delete_at_exit: bool = True) -> None:
        self.client = client
        self.info = info
        self.session_id = info["session_id"]
        self.width, self.height = info["width"], info["height"]
        self.delete_at_exit = delete_at_exit
        self._propagating = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        with contextlib.suppress(*((SamError,) if error is not None else ())):  # the first error is the one to raise
            if self.delete_at_exit:
                await self.delete()
            elif self._propagating:
                await self.cancel()

    async def state(self) -> SessionState:
        """The session's whole state."""
        return await self.client.perform(calls.session(self.session_id))

    async def add_object(self, **prompt: Unpack[NewObject]) -> ObjectMask:
        """Add an object by points, a box, both, or a mask, and return its mask on that frame."""
        return await self.client.perform(calls.add_object(self.session_id, prompt))

    async def refine(self, object_id: Id, **prompt: Unpack[Correction]) -> ObjectMask:
        """Prompt an object again, on this frame or another."""
        return await self.client.perform(calls.refine(self.session_id, object_id, prompt))

    async def remove_object(self, object_id: Id) -> None:
        """Remove an object with its prompts and masks."""
        await self.client.perform(calls.remove_object(self.session_id, object_id))

    async def clear_prompts(self, *, object_id: Id | None = None, frame_idx: Id | None = None) -> int:
        """Take prompts back, of one object or all, on one frame or all; returns how many frames' prompts went."""
        return await self.client.perform(calls.clear_prompts(self.session_id, object_id, frame_idx))

    async def undo(self) -> Moved:
        """Undo the last change of objects or prompts, to the bit; what was undone. Raises Conflict where there is none."""
        return await self.client.perform(calls.undo(self.session_id))

    async def redo(self) -> Moved:
        """Redo what was undone last. Raises Conflict where there is nothing to redo."""
        return await self.client.perform(calls.redo(self.session_id))

    async def rename(self, object_id: Id, name: str | None = None, *, color: str | None = None) -> ObjectState:
        """Give an object another name or colour (`#rrggbb`)."""
        return await self.client.perform(calls.edit(self.session_id, object_id, {"name": name, "color": color}))

    async def edit(self, object_id: Id, **changes: Unpack[ObjectChanges]) -> ObjectState:
        """Change an object's name, colour, lock or place in the list."""
        return await self.client.perform(calls.edit(self.session_id, object_id, changes))

    async def merge(self, object_ids: Iterable[Id]) -> list[int]:
        """Make several objects one, the first of them, with their masks united; returns the frames whose masks changed."""
        return await self.client.perform(calls.merge(self.session_id, object_ids))

    async def mark_absent(self, object_id: Id, frame_idx: Id) -> list[int]:
        """Say that an object is not in the picture from a frame on, up to its next prompt; returns the frames whose masks
        changed."""
        return await self.client.perform(calls.mark_absent(self.session_id, object_id, frame_idx))

    async def start_over(self) -> list[int]:
        """Remove all objects that are not locked; returns the frames whose masks changed."""
        return await self.client.perform(calls.start_over(self.session_id))

    async def frame(self, index: Id, *, width: int | None = None) -> bytes:
        """A frame as JPEG; with `width`, in pixels, a smaller one."""
        return await self.client.perform(calls.frame(self.session_id, index, width))

    async def masks(self, index: Id) -> FrameMasks:
        """All stored masks of a frame; objects without one are left out."""
        return await self.client.perform(calls.masks(self.session_id, index))

    async def tracks(self) -> dict[int, Track]:
        """Scores and areas of each object through the clip, by object id."""
        return await self.client.perform(calls.tracks(self.session_id))

    async def propagate(self, *, masks: bool = True, **which: Unpack[Range]) -> AsyncGenerator[PropagatedFrame, None]:
        """Yield frames as they are computed. Leaving the loop cancels the rest; after a broken connection it resumes.

        After a `break` the event loop closes the generator at some later time; `contextlib.aclosing` does it at once.
        masks: False leaves the masks with the service. Raises Cancelled where someone else cancelled.
        """
        stream = PropagationStream(self.session_id, which, masks=masks, max_wait_s=self.client.max_wait_s)
        self._propagating += 1
        try:
            while not stream.ended:
                try:
                    async with self.client.stream(stream.call()) as response:
                        async for line in response.aiter_lines():
                            if (frame := stream.read(line)) is not None:
                                yield frame
                        stream.check_ended()
                except Unreachable as broken:
                    await asyncio.sleep(stream.pause(broken))
        finally:
            self._propagating -= 1

    async def export(self, export_format: ExportFormat, to: str | os.PathLike[str], *, progress: Progress | None = None,
                     **options: Unpack[ExportOptions]) -> Path:
        """Write an export to a file, or into a folder, and return its path.

        progress: called with the bytes so far, and the bytes in all or None.
        """
        call = calls.export(self.session_id, export_format, options)
        async with self.client.stream(call) as response:
            with Download(to, response, export_format, progress) as download:
                async for data in response.aiter_bytes():
                    download.write(data)
                return download.finish()

    async def cancel(self) -> list[str]:
        """Stop the propagation under way, within a frame; returns the names of the jobs that were stopped."""
        return await self.client.perform(calls.cancel(self.session_id))

    async def delete(self) -> None:
        """Delete the session and all it holds."""
        await self.client.perform(calls.delete(self.session_id))


class AsyncLiveSession(AsyncVideoSession):
    """An open session without a file."""

    async def push(self, picture: Picture, *, frame_idx: Id | None = None, timestamp_s: float | None = None,
                   masks: bool = True) -> LiveFrame:
        """Push one more frame and return all objects' masks on it.

        picture: a JPEG, PNG or WebP of the session's size, or an array (H, W, 3) of RGB. frame_idx: the number that the frame
        has to get, so that a broken connection is tried again. timestamp_s: when it was taken, seconds. Raises Conflict where
        a newer frame has replaced this one.
        """
        return await self.client.perform(live.push(self.session_id, picture, frame_idx, timestamp_s, masks))

    async def rewind(self, frame_idx: Id) -> int:
        """Drop the frames after one of the window, with their masks and prompts; returns the number of the next frame."""
        return await self.client.perform(live.rewind(self.session_id, frame_idx))
