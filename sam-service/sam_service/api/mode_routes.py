"""Modes over HTTP: which there are, which is in use, and another one."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from sam_service.api.deps import Services, ServicesDep
from sam_service.core.threads import usable_cpus
from sam_service.modes import DEFAULT_MODE, MODES, OPTIONS, ModeName

router = APIRouter(tags=["service"])


class ModeKnobs(BaseModel):
    """What a mode comes to here, with the options that are set."""

    max_frame_dimension: int = Field(description="longer side of a new session's frames, pixels", examples=[1920])
    image_size: int | None = Field(description="side of the network's input in new sessions, pixels; null without a model",
                                   examples=[1024])
    threads: int = Field(description="threads of one operation", examples=[4])
    feature_cache_mb: int = Field(description="image features kept in memory, MiB", examples=[64])
    precision: str = Field(description="auto, float32, bfloat16, or fastest: bfloat16 on a CPU that has it, auto elsewhere",
                           examples=["auto"])
    device: str = Field(description="auto, cpu, cuda or mps", examples=["auto"])


class ModeState(BaseModel):
    """The mode in use."""

    mode: ModeName = Field(description="the one in use", examples=[DEFAULT_MODE])
    knobs: ModeKnobs = Field(description="what it comes to")
    fixed: list[str] = Field(description="the knobs that no mode changes, since their options are set", examples=[["threads"]])
    at_next_start: list[str] = Field(description="the knobs of this mode that wait for a start with SAM2_MODE: the network "
                                                 "runs on another device or in another precision", examples=[["device"]])
    modes: dict[ModeName, ModeKnobs] = Field(description="every mode")


class ModeBody(BaseModel):
    """Another mode."""

    model_config = ConfigDict(extra="forbid")
    mode: ModeName = Field(description="the mode to use", examples=["performance"])


@router.get("/mode", summary="Which mode is in use")
async def mode(services: ServicesDep) -> ModeState:
    """The mode in use, what each mode comes to here, and what options hold fixed."""
    return _state(services)


@router.put("/mode", summary="Use another mode")
async def change_mode(body: ModeBody, services: ServicesDep) -> ModeState:
    """Threads and features kept change with the next step, frame size and input size with the next session. Device and
    precision stay as they are until the service is started with `SAM2_MODE`; `at_next_start` names them. The mode holds until
    the process ends."""
    services.modes.change(body.mode)
    return _state(services)


def _state(services: Services) -> ModeState:
    modes = services.modes
    return ModeState(mode=modes.current, knobs=_knobs(services, modes.current), fixed=modes.fixed,
                     at_next_start=modes.at_next_start, modes={name: _knobs(services, name) for name in MODES})


def _knobs(services: Services, name: ModeName) -> ModeKnobs:
    knobs, info = services.modes.knobs(name), services.engine.info
    given = {knob: value for knob, value in asdict(knobs).items() if knob in OPTIONS}
    return ModeKnobs(**given | {"threads": knobs.thread_count(usable_cpus()),
                                "image_size": None if info is None else knobs.input_side(info.image_size)})
