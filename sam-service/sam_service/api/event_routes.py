"""The WebSocket on which a session's events are published."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, WebSocket, WebSocketDisconnect
from pydantic_core import to_json

from sam_service.api import views
from sam_service.api.deps import Services
from sam_service.api.keys import given_key, is_key
from sam_service.api.origins import is_foreign
from sam_service.api.problems import problem_of
from sam_service.api.sharing import Document
from sam_service.errors import ServiceError, TooLarge
from sam_service.masks.encode import MaskFormat
from sam_service.sessions import events
from sam_service.sessions.session import Session

router = APIRouter(tags=["propagation"])
PROTOCOL, KEY_PREFIX = "sam-service", "key."
UNAUTHORIZED, NO_SESSION, FOREIGN_ORIGIN, ENDED = 4401, 4404, 4403, 1000
EXTRACTION_INTERVAL_S, IDLE_INTERVAL_S = 0.25, 15.0  # between two looks at how far the extraction is; there is none any more

Message = tuple[str, dict[str, Any]]  # its name, and what it says


@router.websocket("/sessions/{session_id}/events")
async def session_events(socket: WebSocket, session_id: Annotated[str, Path(max_length=64)],
                         mask_format: Annotated[MaskFormat, Query()] = "none") -> None:
    """All that happens in a session, as JSON messages, the whole state first. Closed with 4401 without the API key, 4404
    where there is no such session, 4403 for a page of another origin."""
    services: Services = socket.app.state.services
    protocols = socket.scope.get("subprotocols", [])
    await socket.accept(PROTOCOL if PROTOCOL in protocols else None)
    expected = services.settings.sam2_api_key
    if expected is not None and not is_key(_given(socket), expected):
        return await socket.close(UNAUTHORIZED, "this service wants its API key")
    if is_foreign(socket.headers, socket.app.state.origins):
        return await socket.close(FOREIGN_ORIGIN, "a page of another origin may not listen")
    try:
        session = services.sessions.get(session_id)
    except ServiceError as error:
        return await socket.close(NO_SESSION, error.message)
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # RuntimeError: sending after the client has closed
        await _serve(socket, services, session, mask_format)


async def _serve(socket: WebSocket, services: Services, session: Session, mask_format: MaskFormat) -> None:
    """Publish and listen, until either side ends it."""
    publish = asyncio.create_task(_publish(socket, services, session, mask_format))
    listen = asyncio.create_task(_listen(socket, services, session))
    try:
        await asyncio.wait({publish, listen}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (publish, listen):
            task.cancel()
        results = await asyncio.gather(publish, listen, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _publish(socket: WebSocket, services: Services, session: Session, mask_format: MaskFormat) -> None:
    with session.events.watch() as watcher:
        await _hello(socket, services, session)
        extracted = _extraction(session)
        while True:
            event = await watcher.next(EXTRACTION_INTERVAL_S if extracted["status"] == "extracting" else IDLE_INTERVAL_S)
            if (now := _extraction(session)) != extracted:
                extracted = now
                await _send(socket, session, "extraction", now)
            match event:
                case events.SessionDeleted():
                    await _send(socket, session, "deleted", {})
                    return await socket.close(ENDED)
                case events.Missed():
                    await _hello(socket, services, session)
                case None:
                    pass
                case events.PromptAnswered() | events.FrameDone() | events.FramePushed():
                    await _send(socket, session, *await _masks(services, session, event, mask_format))
                case _:
                    await _send(socket, session, *await _state(services, session, event))


async def _listen(socket: WebSocket, services: Services, session: Session) -> None:
    """Answer pings. A page that is open keeps its session alive."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        with contextlib.suppress(ServiceError):
            services.sessions.get(session.session_id)
        text = message.get("text") or ""
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(text) if len(text) < 1024 else None
            if isinstance(said, dict) and "ping" in said:
                await _send(socket, session, "pong", {})


async def _masks(services: Services, session: Session,
                 event: events.PromptAnswered | events.FrameDone | events.FramePushed, mask_format: MaskFormat) -> Message:
    """The message of an event that carries masks. They are rendered once for all who watch."""
    try:
        if isinstance(event, events.PromptAnswered):
            return "mask", {"object": await views.mask_document(services, session.session_id, event.mask, mask_format)}
        frame = await views.frame_document(services, session.session_id, event.result, mask_format)
    except TooLarge as error:
        return "error", problem_of(error).model_dump(exclude_none=True)
    if isinstance(event, events.FramePushed):
        done = event.result.frame_index + 1
        return "frame", {"job_id": None, "done": done, "total": done, "dropped": event.dropped, **frame}
    return "frame", {"job_id": event.job.job_id, "done": event.done, "total": max(event.job.total, event.done),
                     "frames_per_second": round(event.job.frames_per_second, 3), **frame}


async def _state(services: Services, session: Session, event: events.Event) -> Message:
    """The message of any other event."""
    match event:
        case events.JobChanged(job):
            return "job", {"job": views.job_info(job).model_dump()}
        case events.ExportProgress():
            return "export", asdict(event)
        case events.MasksChanged(frames):
            return "masks", {"frames": list(frames)}
        case _:
            return "objects", await services.shared.get(event, "", lambda: _objects(session))


async def _objects(session: Session) -> Document:
    return {"objects": [views.object_state(session, number).model_dump() for number in session.prompts],
            "prompts": [prompt.model_dump() for prompt in views.prompt_states(session)]}


def _extraction(session: Session) -> dict[str, Any]:
    frames = session.frames
    status = views.extraction_status(session)
    return {"status": status, "frames_ready": frames.frames_ready, "num_frames": frames.num_frames}


async def _hello(socket: WebSocket, services: Services, session: Session) -> None:
    await _send(socket, session, "hello", {"session": (await views.session_info(services, session)).model_dump()})


async def _send(socket: WebSocket, session: Session, event: str, body: dict[str, Any]) -> None:
    await socket.send_text(to_json({"event": event, "session_id": session.session_id, **body}).decode())


def _given(socket: WebSocket) -> bytes:
    """The key of a header or, from a browser, which cannot set one, of the sub-protocol `key.` + base64url."""
    for protocol in socket.scope.get("subprotocols", []):
        if protocol.startswith(KEY_PREFIX):
            coded = protocol.removeprefix(KEY_PREFIX)
            with contextlib.suppress(binascii.Error, ValueError):
                return base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4))
    return given_key(socket)

