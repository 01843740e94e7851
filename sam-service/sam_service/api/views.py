"""Domain objects become the schemas that travel."""

from __future__ import annotations

from sam_service.api.deps import Services
from sam_service.api.problems import problem_of
from sam_service.api.sharing import Document
from sam_service.core.prompts import PointPrompt, Prompt
from sam_service.masks.encode import MaskFormat
from sam_service.masks.rle import rle_area, rle_bbox
from sam_service.schemas import (
    FrameMasks,
    History,
    Initialized,
    JobInfo,
    LiveState,
    Model,
    ObjectMask,
    ObjectState,
    PromptState,
    SessionInfo,
    StepState,
    Track,
    Tracks,
)
from sam_service.sessions.jobs import Job
from sam_service.sessions.records import FrameResult, MaskRecord, StepRecord
from sam_service.sessions.render import as_rle, to_format
from sam_service.sessions.session import Session


def initialized(services: Services, session: Session) -> Initialized:
    """A session as `/initialize` answers it."""
    frames, manifest = session.frames, session.frames.manifest
    info = services.engine.model_of(session.any_bank.model)
    return Initialized(
        session_id=session.session_id, status=extraction_status(session), num_frames=frames.num_frames,
        frames_ready=frames.frames_ready, width=manifest.width, height=manifest.height,
        original_width=manifest.original_width, original_height=manifest.original_height,
        pixel_aspect=manifest.pixel_aspect, size_changed=manifest.size_changed, missing_frames=manifest.missing_frames,
        scale_factor=manifest.scale_factor, fps=manifest.fps,
        truncated=manifest.truncated, live=live_state(session), expires_at=services.sessions.expires_at(session),
        model=Model(size=info.size if info else services.settings.sam2_model_size, image_size=session.record.image_size,
                    device=info.device if info else "", quantized=info.quantized if info else False))


def extraction_status(session: Session) -> str:
    """`extracting`, `ready`, `failed` or `live`."""
    frames = session.frames
    if session.live is not None:
        return "live"
    return "failed" if frames.error is not None else "ready" if frames.complete else "extracting"


def live_state(session: Session) -> LiveState | None:
    """How a live session deals with its frames; None of one with a file."""
    frames = session.live
    return None if frames is None else LiveState(policy=frames.options.policy, keep_frames=frames.options.keep_frames,
                                                 first_frame=frames.first, dropped=frames.dropped)


async def session_info(services: Services, session: Session) -> SessionInfo:
    """A session's whole state."""
    masked = await services.sessions.pools.rendering.run(lambda: services.sessions.store.masked_frames(session.session_id))
    error = session.frames.error
    return SessionInfo(
        **dict(initialized(services, session)), video_name=session.record.video_name, created_at=session.record.created_at,
        objects=[object_state(session, object_id) for object_id in session.prompts], prompts=prompt_states(session),
        frames_with_masks=masked,
        running=job_info(session.job) if session.job is not None and session.job.running else None,
        history=history(session), error=error.message if error is not None else None)


def object_state(session: Session, object_id: int) -> ObjectState:
    """An object of a session."""
    label = session.label(object_id)
    return ObjectState(object_id=object_id, name=label.name, color=label.color,
                       prompted_frames=sorted(session.prompts[object_id]), locked=object_id in session.objects.locked,
                       absent_from=sorted(session.objects.absences.get(object_id, ())))


def history(session: Session) -> History:
    """What can be undone and redone in a session."""
    return History(undo=[step_state(change.record) for change in reversed(session.history.done)],
                   redo=[step_state(change.record) for change in session.history.undone])


def step_state(step: StepRecord) -> StepState:
    """A step as it travels."""
    return StepState(kind=step.kind, object_ids=list(step.object_ids), frame_idx=step.frame_index)


def prompt_states(session: Session) -> list[PromptState]:
    """All prompts of a session, by object and frame."""
    return [_prompt(object_id, frame, prompt) for object_id, frames in session.prompts.items()
            for frame, prompt in sorted(frames.items())]


def tracks(session: Session, masks: list[MaskRecord]) -> Tracks:
    """Stored masks as columns over time. Takes milliseconds for thousands of them."""
    columns: dict[int, list[MaskRecord]] = {object_id: [] for object_id in session.prompts}
    for mask in masks:
        if mask.object_id in columns:
            columns[mask.object_id].append(mask)
    return Tracks(session_id=session.session_id, num_frames=session.frames.num_frames, objects=[
        Track(object_id=object_id, frames=[mask.frame_index for mask in found], score=[round(mask.score, 4) for mask in found],
              object_score=[round(mask.object_score, 4) for mask in found], area=[rle_area(as_rle(mask)) for mask in found])
        for object_id, found in columns.items()])


def job_info(job: Job) -> JobInfo:
    """A job's progress."""
    error = None
    if job.error is not None:
        error = problem_of(job.error).model_dump(exclude_none=True) | {"frame_idx": job.at}
    return JobInfo(job_id=job.job_id, session_id=job.session_id, state=job.public_state, done=job.done, total=job.total,
                   frames_per_second=round(job.frames_per_second, 3), elapsed_s=round(job.elapsed_s, 4), error=error)


def object_mask(session_id: str, record: MaskRecord, mask_format: MaskFormat) -> ObjectMask:
    """A stored mask in the form that a client asked for. Takes about a millisecond: call it off the event loop."""
    rle = as_rle(record)
    return ObjectMask(
        session_id=session_id, frame_idx=record.frame_index, object_id=record.object_id, mask=to_format(record, mask_format),
        mask_format=mask_format, score=round(record.score, 5), object_score=round(record.object_score, 5),
        area=rle_area(rle), bbox=rle_bbox(rle), elapsed_ms=round(record.elapsed_ms, 2))


def frame_masks(session_id: str, result: FrameResult, mask_format: MaskFormat) -> FrameMasks:
    """A frame with all its objects."""
    return FrameMasks(frame_idx=result.frame_index, timestamp_s=round(result.timestamp_s, 5),
                      objects=[object_mask(session_id, record, mask_format) for record in result.masks])


async def frame_document(services: Services, session_id: str, result: FrameResult, mask_format: MaskFormat) -> Document:
    """`frame_masks` as it travels, rendered off the event loop, once for all who ask at about the same time."""
    return await services.shared.get(result, mask_format, lambda: services.sessions.pools.rendering.run(
        lambda: frame_masks(session_id, result, mask_format).model_dump()))


async def mask_document(services: Services, session_id: str, record: MaskRecord, mask_format: MaskFormat) -> Document:
    """`object_mask` in the same way."""
    return await services.shared.get(record, mask_format, lambda: services.sessions.pools.rendering.run(
        lambda: object_mask(session_id, record, mask_format).model_dump()))


def _prompt(object_id: int, frame: int, prompt: Prompt) -> PromptState:
    if not isinstance(prompt, PointPrompt):
        return PromptState(object_id=object_id, frame_idx=frame, points=[], labels=[], box=None, mask=True)
    points, labels = prompt.clicks
    return PromptState(object_id=object_id, frame_idx=frame, points=points.tolist(), labels=labels.tolist(),
                       box=prompt.box.tolist() if prompt.box is not None else None, mask=False)
