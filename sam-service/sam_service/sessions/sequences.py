"""The use case behind the Open Inference Protocol: a picture is segmented, or a clip tracked picture by picture.

Both are live sessions: one that lasts for a picture, or one for a sequence, from its start to its end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sam_service.errors import ClientError, Conflict, InvalidInput, InvalidPrompt, NotFound, TooLarge
from sam_service.sessions.live import Live
from sam_service.sessions.prompting import Prompting
from sam_service.sessions.prompts import PromptInput, check_prompt, is_positive
from sam_service.sessions.records import MaskRecord
from sam_service.sessions.service import LiveOpening, SessionService
from sam_service.sessions.session import Session
from sam_service.video.live import LiveOptions
from sam_service.video.picture_size import picture_size

MAX_SEQUENCE_ID = 128  # characters
KEEP_FRAMES = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """One call. picture: JPEG, PNG or WebP. prompt: of an object on this picture, None to track on. object_id: the client's
    number for it, chosen if None."""

    picture: bytes
    prompt: PromptInput | None = None
    object_id: int | None = None


@dataclass(frozen=True, slots=True)
class Sequence:
    """Which sequence a call belongs to, and whether it is its first or its last."""

    sequence_id: str
    start: bool = False
    end: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """All objects on a picture. frame_index: its number in the sequence."""

    session_id: str
    frame_index: int
    masks: tuple[MaskRecord, ...]


class Sequences:
    """Sequences of one service. Which session a sequence is, is known in this process only."""

    def __init__(self, sessions: SessionService, live: Live, prompting: Prompting) -> None:
        self._sessions, self._live, self._prompting = sessions, live, prompting
        self._session_ids: dict[str, str] = {}

    async def infer(self, asked: Asked, sequence: Sequence | None) -> Answered:
        """Segment a picture, or track the objects of a sequence on its next one and then prompt one of them.

        Raises what `Live.push` and `Prompting` do, and Conflict for a sequence that was not started.
        """
        if sequence is None:
            if asked.prompt is None:
                raise InvalidInput("say where the object is: `points`, `box` or both", field="points")
            session = await self._open(asked.picture)
            try:
                return await self._step(session, asked)
            finally:
                await asyncio.shield(self._sessions.delete(session.session_id))
        session = await self._session(asked, sequence)
        try:
            answered = await self._step(session, asked)
        except BaseException:
            if sequence.start:  # it has not begun
                await asyncio.shield(self._end(sequence, session))
            raise
        if sequence.end:
            await self._end(sequence, session)
        return answered

    async def _end(self, sequence: Sequence, session: Session) -> None:
        self._session_ids.pop(sequence.sequence_id, None)
        await self._sessions.delete(session.session_id)

    async def _session(self, asked: Asked, sequence: Sequence) -> Session:
        """The session of a sequence; where this is its first picture, a new one, and an earlier one ends."""
        known = self._session_ids.get(sequence.sequence_id, sequence.sequence_id)
        if sequence.start:
            if self._session_ids.pop(sequence.sequence_id, None) is not None:
                await self._sessions.delete(known)
            self._session_ids = {name: session_id for name, session_id in self._session_ids.items()
                                 if self._sessions.find(session_id) is not None}
            session = await self._open(asked.picture)
            self._session_ids[sequence.sequence_id] = session.session_id
            return session
        try:
            return self._sessions.get(known)
        except NotFound:
            raise Conflict(f"the sequence {sequence.sequence_id} was not started; its first request has `sequence_start`",
                           field="sequence_id", code="sequence_unknown") from None

    async def _open(self, picture: bytes) -> Session:
        width, height = picture_size(picture)
        most = self._sessions.limits.max_dimension
        if max(width, height) > most:
            raise TooLarge(f"the picture has {width} x {height} pixels; the longer side may have {most} (MAX_FRAME_DIMENSION)",
                           field="image", code="too_many_pixels")
        return await self._sessions.open_live(LiveOpening(width, height, LiveOptions("all", KEEP_FRAMES)))

    async def _step(self, session: Session, asked: Asked) -> Answered:
        """Push a picture and answer its prompt, which is checked before, so that a wrong one pushes nothing."""
        prompt = asked.prompt
        if prompt is not None:
            checked = await self._sessions.pools.rendering.run(lambda: check_prompt(prompt, *session.size))
            if asked.object_id not in session.prompts and not is_positive(checked):
                raise InvalidPrompt("an object's first prompt needs a positive point (label 1) or a box", field="labels")
        try:
            pushed = await self._live.push(session.session_id, asked.picture)
        except ClientError as error:
            error.field = "image" if error.field == "body" else error.field
            raise
        index = pushed.result.frame_index
        masks = {mask.object_id: mask for mask in pushed.result.masks}
        if prompt is not None:
            if asked.object_id is not None and asked.object_id in session.prompts:
                answer = await self._prompting.refine(session.session_id, index, asked.object_id, prompt, replace=False)
            else:
                answer = await self._prompting.add_object(session.session_id, index, asked.object_id, prompt)
            masks[answer.object_id] = answer
        return Answered(session.session_id, index, tuple(masks.values()))
