"""The application factory: settings in, FastAPI application out. Settings are unpacked here and nowhere below."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI

from sam_service import __version__
from sam_service.api import event_routes, problems, prompt_routes, propagation_routes, service_routes, session_routes
from sam_service.api.bodies import BodyLimit
from sam_service.api.deps import Services, require_key
from sam_service.core.engine import Engine, EngineOptions
from sam_service.core.threads import usable_cpus
from sam_service.sessions.prompting import Prompting
from sam_service.sessions.propagation import Propagation
from sam_service.sessions.service import Limits, SessionService
from sam_service.sessions.store import SqliteStore
from sam_service.settings import Settings
from sam_service.video.launch import warm_up

logger = logging.getLogger(__name__)
EXPIRY_INTERVAL_S = 1.0
MAX_JSON_BYTES = 24 << 20  # a mask prompt is a base64 PNG of at most 16 MiB

DESCRIPTION = """Segment and track objects through videos with SAM 2.1.

Open a video (`/initialize`), click an object (`/add-object`), correct it (`/refine`), get its mask on every frame
(`/propagate`). Coordinates are pixels of the session's frames: origin top left, x right, y down. Errors are
`application/problem+json` and name the field and the limit."""


def create_app(settings: Settings) -> FastAPI:
    """Build the application. The model loads in the background once the application starts; `/ready` tells when."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = build_services(settings)
        app.state.services = services
        services.engine.start()
        warm_up()
        services.sessions.restore()
        sweeper = asyncio.create_task(_expire_forever(services.sessions))
        try:
            yield
        finally:
            sweeper.cancel()
            await services.sessions.close()
            await asyncio.to_thread(services.engine.stop)
            services.sessions.store.close()

    app = FastAPI(title="sam-service", version=__version__, description=DESCRIPTION, lifespan=lifespan,
                  responses=problems.documented(400, 413, 500))
    app.add_middleware(BodyLimit, max_bytes=MAX_JSON_BYTES, uploads=frozenset({"/initialize"}))
    problems.install(app)
    app.include_router(service_routes.open_router)
    app.include_router(event_routes.router)
    for router in (service_routes.router, session_routes.router, prompt_routes.router, propagation_routes.router):
        app.include_router(router, dependencies=[Depends(require_key)],
                           responses=problems.documented(401, 404, 409, 410, 422, 503))
    return app


def build_services(settings: Settings) -> Services:
    """Wire the use cases from the settings; starts nothing."""
    threads = settings.torch_num_threads or usable_cpus()
    engine = Engine(EngineOptions(
        size=settings.sam2_model_size, checkpoint=settings.sam2_checkpoint, image_size=settings.sam2_image_size,
        device=settings.sam2_device, force_cpu=settings.sam2_demo_force_cpu_device, quantize=settings.sam2_quantize,
        threads=threads, cache_bytes=settings.feature_cache_mb << 20, max_queued=settings.max_queued_steps,
        max_image_size=settings.max_image_size, offline=settings.hf_hub_offline))
    limits = Limits(
        max_frames=settings.max_video_frames, max_dimension=settings.max_frame_dimension,
        jpeg_quality=settings.frame_jpeg_quality, max_sessions=settings.max_sessions, max_objects=settings.max_objects,
        ttl_s=settings.session_ttl_s, spill_bytes=settings.memory_spill_mb << 20)
    data_dir = settings.sam2_data_dir.resolve()
    sessions = SessionService(data_dir, SqliteStore(data_dir / "sessions.sqlite"), engine, limits)
    return Services(settings, engine, sessions, Prompting(sessions), Propagation(sessions), threads)


async def _expire_forever(sessions: SessionService) -> None:
    while True:
        await asyncio.sleep(EXPIRY_INTERVAL_S)
        try:
            await sessions.expire()
        except Exception:
            logger.exception("expired sessions could not be freed; trying again")
