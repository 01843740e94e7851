"""Prompts: add an object, refine it, name it, remove it, take prompts back."""

from __future__ import annotations

from fastapi import APIRouter

from sam_service.api import views
from sam_service.api.deps import Services, ServicesDep
from sam_service.api.json_bodies import LargeJsonRoute
from sam_service.api.session_routes import ObjectNumber, SessionPath
from sam_service.masks.encode import MaskFormat
from sam_service.schemas import (
    AddObject,
    Changed,
    ClearPrompts,
    EditObject,
    MarkAbsent,
    MergeObjects,
    Moved,
    ObjectMask,
    ObjectState,
    OfSession,
    Prompt,
    Refine,
    RemoveObject,
)
from sam_service.sessions import undoing
from sam_service.sessions.prompting import Edit
from sam_service.sessions.prompts import PromptInput
from sam_service.sessions.records import MaskRecord

router = APIRouter(tags=["prompts"], route_class=LargeJsonRoute)


@router.post("/add-object", summary="Click or box a new object")
async def add_object(body: AddObject, services: ServicesDep) -> ObjectMask:
    """Add an object by points, a box, both, or a mask, and get its mask on that frame."""
    record = await services.prompting.add_object(body.session_id, _frame(body, services), body.object_id,
                                                 _input(body), body.name)
    return await _answer(services, body.session_id, record, body.mask_format)


@router.post("/refine", summary="Correct an object")
async def refine(body: Refine, services: ServicesDep) -> ObjectMask:
    """Prompt an object again, on this or another frame. Points add to the earlier ones of the frame unless `replace`."""
    record = await services.prompting.refine(body.session_id, _frame(body, services), body.object_id, _input(body),
                                             replace=body.replace)
    return await _answer(services, body.session_id, record, body.mask_format)


@router.patch("/sessions/{session_id}/objects/{object_id}", summary="Name, colour, lock or move an object")
async def edit_object(session_id: SessionPath, object_id: ObjectNumber, body: EditObject,
                      services: ServicesDep) -> ObjectState:
    """Give an object a name or a colour, lock it, or move it in the list. What is left out stays as it is."""
    await services.prompting.edit(session_id, object_id, Edit(body.name, body.color, body.locked, body.position))
    return views.object_state(services.sessions.get(session_id), object_id)


@router.post("/remove-object", summary="Remove an object")
async def remove_object(body: RemoveObject, services: ServicesDep) -> Changed:
    """Remove an object with its prompts and masks."""
    await services.prompting.remove_object(body.session_id, body.object_id)
    return _changed(services, body.session_id)


@router.post("/clear-prompts", summary="Take prompts back")
async def clear_prompts(body: ClearPrompts, services: ServicesDep) -> Changed:
    """Take back the prompts of one object or all, on one frame or all. The objects stay in the list."""
    cleared = await services.prompting.clear_prompts(body.session_id, body.object_id, body.frame_idx)
    return _changed(services, body.session_id, cleared=cleared)


@router.post("/merge-objects", summary="Make several objects one")
async def merge_objects(body: MergeObjects, services: ServicesDep) -> Changed:
    """Unite the masks of several objects on every frame. The first one stays; it is prompted with the united mask on each frame
    that one of them was prompted on."""
    return _changed(services, body.session_id, await services.reworking.merge(body.session_id, body.object_ids))


@router.post("/mark-absent", summary="Say that an object is not in the picture")
async def mark_absent(body: MarkAbsent, services: ServicesDep) -> Changed:
    """From this frame on the object's masks are empty, up to its next prompt, and no propagation changes that."""
    return _changed(services, body.session_id,
                    await services.reworking.mark_absent(body.session_id, body.object_id, body.frame_idx))


@router.post("/start-over", summary="Remove all objects")
async def start_over(body: OfSession, services: ServicesDep) -> Changed:
    """Remove all objects that are not locked, as one step."""
    return _changed(services, body.session_id, await services.reworking.start_over(body.session_id))


@router.post("/undo", summary="Undo the last step")
async def undo(body: OfSession, services: ServicesDep) -> Moved:
    """Undo the last change of objects or prompts: the objects, their masks and what they were tracked with are as before it, to
    the bit. Other objects keep what they were tracked to since."""
    return _moved(services, body.session_id, await services.undoing.undo(body.session_id))


@router.post("/redo", summary="Redo the step that was undone last")
async def redo(body: OfSession, services: ServicesDep) -> Moved:
    """Bring back what `/undo` took back last, to the bit. A change or a propagation in between makes that impossible."""
    return _moved(services, body.session_id, await services.undoing.redo(body.session_id))


def _moved(services: Services, session_id: str, moved: undoing.Moved) -> Moved:
    session = services.sessions.get(session_id)
    return Moved(session_id=session_id, step=views.step_state(moved.step), object_ids=list(session.prompts),
                 changed_frames=list(moved.frames), history=views.history(session))


def _frame(body: Prompt, services: Services) -> int:
    return services.live.frame_of(body.session_id, body.frame_idx)


def _input(body: Prompt) -> PromptInput:
    return PromptInput(body.points, body.labels, body.box, body.mask, body.normalized)


def _changed(services: Services, session_id: str, frames: list[int] | None = None, *, cleared: int = 0) -> Changed:
    session = services.sessions.get(session_id)
    return Changed(session_id=session_id, object_ids=list(session.prompts), cleared=cleared, changed_frames=frames or [])


async def _answer(services: Services, session_id: str, record: MaskRecord, mask_format: MaskFormat) -> ObjectMask:
    return await services.sessions.pools.rendering.run(lambda: views.object_mask(session_id, record, mask_format))
