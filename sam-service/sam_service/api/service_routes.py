"""The service itself: is it alive, is it ready, which models are there."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import psutil
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from sam_service import __version__
from sam_service.api.deps import Services, ServicesDep
from sam_service.api.problems import documented, problem_of, respond
from sam_service.api.service_schemas import Health, Models
from sam_service.errors import ServiceError
from sam_service.masks.palette import PALETTE, to_hex
from sam_service.schemas import Colors, Ready

open_router = APIRouter(tags=["service"])
router = APIRouter(tags=["service"])


@open_router.get("/health", summary="Is the service alive", response_model=Health)
async def health(services: ServicesDep) -> dict[str, Any]:
    """200 while alive: device, model, threads, queue length, memory in bytes."""
    engine, info = services.engine, services.engine.info
    return {
        "status": "ok", "version": __version__, "ready": engine.ready, "device": info.device if info else None,
        **engine.hardware(),
        "model": None if info is None else {
            "size": info.size, "label": info.label, "image_size": engine.usual_image_size, "quantized": info.quantized,
            "source": info.source, "parameters": info.parameters, **({} if info.advice is None else {"note": info.advice}),
            **({} if info.chosen is None else {"chosen": info.chosen})},
        "fetching": None if engine.fetching is None else asdict(engine.fetching.state),
        "error": engine.failure.message if engine.failure else None,
        "threads": engine.threads, "mode": services.modes.current,
        "worker": {"alive": engine.worker.alive, "busy_s": round(engine.worker.busy_s, 3), "restarts": engine.worker.restarts,
                   "process_restarts": services.process_restarts, "recycled": services.recycled},
        "queue": {"waiting": engine.worker.queued, "limit": services.settings.max_queued_steps},
        "sessions": {"open": len(services.sessions.sessions()), "limit": services.settings.max_sessions},
        "memory": {"rss_bytes": psutil.Process().memory_info().rss, "feature_cache_bytes": engine.cache_nbytes,
                   "feature_disk_bytes": engine.disk_nbytes},
    }


@open_router.get("/ready", summary="Can the service take work", response_model=Ready, responses=documented(503))
async def ready(services: ServicesDep) -> JSONResponse:
    """200 once the model is loaded and warm, 503 before."""
    try:
        services.engine.require_ready()
    except ServiceError as error:
        return respond(problem_of(error))
    return JSONResponse({"ready": True})


@router.get("/models", summary="Which models there are", response_model=Models)
async def models(services: ServicesDep) -> dict[str, Any]:
    """Every size, which of them are on this machine, and which one answers."""
    return {"current": _current(services), "models": await services.sessions.pools.rendering.run(services.engine.models)}


@router.get("/colors", summary="The colours of objects")
async def colors() -> Colors:
    """64 colours that differ, in the order in which objects get them."""
    return Colors(colors=[to_hex(colour) for colour in PALETTE])


def _current(services: Services) -> str:
    info = services.engine.info
    return info.size if info else services.engine.options.size
