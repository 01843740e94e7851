"""The application factory: settings in, FastAPI application out. Settings are unpacked here and nowhere below."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from fastapi import Depends, FastAPI

from sam_service import __version__
from sam_service.api import (
    docs_page,
    event_routes,
    export_routes,
    guards,
    library_routes,
    live_routes,
    metrics_routes,
    mode_routes,
    oip_routes,
    problems,
    prompt_routes,
    propagation_routes,
    service_routes,
    session_routes,
    studio,
)
from sam_service.api.bodies import BodyLimit, BodyRules
from sam_service.api.deps import Services
from sam_service.api.modes import Modes
from sam_service.api.observe import Observed
from sam_service.api.queries import known_query
from sam_service.api.recycling import Recycling
from sam_service.core.engine import Engine, EngineOptions
from sam_service.core.models.family import Checkpoint
from sam_service.core.speedups import Speedups
from sam_service.core.threads import usable_cpus
from sam_service.sessions.admission import Reserve
from sam_service.sessions.exporting import Exporting
from sam_service.sessions.folder import DataFolder
from sam_service.sessions.library import Library
from sam_service.sessions.live import Live
from sam_service.sessions.prompting import Prompting
from sam_service.sessions.propagation import Propagation
from sam_service.sessions.reworking import Reworking
from sam_service.sessions.sequences import Sequences
from sam_service.sessions.service import Limits, SessionService
from sam_service.sessions.store import SqliteStore
from sam_service.sessions.undoing import Undoing
from sam_service.settings import Settings
from sam_service.telemetry import Telemetry
from sam_service.video.launch import warm_up
from sam_service.video.limits import VideoLimits

logger = logging.getLogger(__name__)
EXPIRY_INTERVAL_S = WATCH_INTERVAL_S = 1.0
MASK_BYTES = 24 << 20  # a mask prompt is a picture of at most 16 MiB, in base64
BODIES = BodyRules(large={"/add-object": MASK_BYTES, "/refine": MASK_BYTES}, uploads=frozenset({"/initialize"}),
                   none=(re.compile("/sessions/[^/]*/cancel"), re.compile("/sample")),
                   pictures=re.compile("/sessions/[^/]*/frames|/v2/models/.*/infer"),
                   picture_bytes=live_routes.MAX_PICTURE_BYTES)
# What needs no key: whether the service lives, what it can do, and the files of its page, which asks for the key.
OPEN_PATHS = frozenset({"/", "/studio/", "/docs", "/docs/", "/openapi.json", "/health", "/ready",
                        "/v2/health/live", "/v2/health/ready"})

DESCRIPTION = """Segment and track objects through videos with SAM 2.1.

Open a video (`/initialize`), click an object (`/add-object`), correct it (`/refine`), get its mask on every frame
(`/propagate`). Coordinates are pixels of the session's frames: origin top left, x right, y down. Errors are
`application/problem+json` and name the field and the limit."""


def create_app(settings: Settings, *, on_hang: Callable[[], object] | None = None,
               on_recycle: Callable[[], object] | None = None, process_restarts: int = 0,
               recycled: int = 0) -> FastAPI:
    """Build the application. The model loads in the background once the application starts; `/ready` tells when.

    on_hang: called on the event loop when a step takes longer than STEP_TIMEOUT_S; without it that is only logged.
    on_recycle: called there when RECYCLE_STEPS or RECYCLE_MEMORY_MB say that the process should start anew.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stopping.clear()
        services = replace(build_services(settings, telemetry, process_restarts, stopping), recycled=recycled)
        app.state.services = services
        metrics_routes.observe_state(services)
        services.engine.start()
        warm_up()
        services.sessions.restore()
        services.propagation.restore()
        tasks = [asyncio.create_task(work) for work in (
            _expire_forever(services.sessions), _watch_forever(services, on_hang, on_recycle),
            services.propagation.resume_background())]
        try:
            yield
        finally:
            services.begin_stop()
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(services.exporting.close)
            await services.sessions.close()
            await asyncio.to_thread(services.engine.stop, settings.shutdown_timeout_s)
            services.sessions.store.close()

    stopping, telemetry = asyncio.Event(), Telemetry()
    app = FastAPI(title="sam-service", version=__version__, description=DESCRIPTION, lifespan=lifespan, docs_url=None,
                  redoc_url=None, redirect_slashes=False, responses=problems.documented(400, 403, 408, 413, 431, 500))
    app.add_middleware(BodyLimit, rules=BODIES, stopping=stopping)
    problems.install(app)
    open_here = {"/metrics"} if guards.is_loopback(settings.host) else set()
    guards.install(app, settings, OPEN_PATHS | open_here)
    app.add_middleware(Observed, telemetry=telemetry)  # the last one added is the outermost
    app.include_router(service_routes.open_router)
    app.include_router(oip_routes.open_router)
    app.include_router(event_routes.router)
    app.include_router(studio.router)
    app.include_router(docs_page.router)
    answers = problems.documented(401, 404, 409, 410, 422, 503)
    for router in (service_routes.router, metrics_routes.router, oip_routes.router):
        app.include_router(router, responses=answers)
    for router in (mode_routes.router, session_routes.router, library_routes.router, prompt_routes.router,
                   propagation_routes.router, live_routes.router, export_routes.router):
        app.include_router(router, responses=answers, dependencies=[Depends(known_query)])
    return app


def build_services(settings: Settings, telemetry: Telemetry | None = None, process_restarts: int = 0,
                   stopping: asyncio.Event | None = None) -> Services:
    """Wire the use cases from the settings; starts nothing. stopping: set once the service stops. Raises StoreUnusable."""
    knobs = settings.knobs()
    data = DataFolder(settings.sam2_data_dir.resolve())
    min_free_bytes = settings.min_free_disk_mb << 20
    engine = Engine(EngineOptions(
        size=settings.sam2_model_size, image_size=settings.sam2_image_size,
        checkpoint=Checkpoint(settings.sam2_checkpoint, settings.sam2_revision, settings.sam2_checkpoint_sha256,
                              offline=settings.hf_hub_offline, progress=logger.info),
        device=knobs.device, force_cpu=settings.sam2_demo_force_cpu_device, precision=knobs.precision,
        speedups=Speedups(settings.sam2_quantize, settings.sam2_compile, settings.sam2_memory_share),
        track_every=settings.sam2_track_every, threads=knobs.thread_count(usable_cpus()), input_side=knobs.input_side,
        cache_bytes=knobs.feature_cache_mb << 20, feature_dir=data.path / "features",
        disk_bytes=settings.feature_disk_mb << 20, min_free_bytes=min_free_bytes, max_queued=settings.max_queued_steps,
        max_image_size=settings.max_image_size, embedded_meanwhile=settings.sam2_meanwhile == "embedded"), telemetry)
    limits = Limits(
        max_frames=settings.max_video_frames, max_dimension=knobs.max_frame_dimension,
        jpeg_quality=settings.frame_jpeg_quality, max_sessions=settings.max_sessions, max_objects=settings.max_objects,
        max_prompts=settings.max_prompts,
        ttl_s=settings.session_ttl_s, live_ttl_s=settings.live_ttl_s, spill_bytes=settings.memory_spill_mb << 20,
        video=VideoLimits(min_free_bytes=min_free_bytes))
    reserve = Reserve(min_free_bytes, settings.max_memory_mb << 20 if settings.max_memory_mb else None)
    store = SqliteStore(data.database, before_creating=data.keep_sessions)
    sessions = SessionService(data, store, engine, limits, reserve)
    library = Library(settings.sam2_video_dir, limits.video, sessions.pools)
    live, prompting = Live(sessions), Prompting(sessions)
    return Services(settings, engine, sessions, prompting, Propagation(sessions), Exporting(sessions),
                    Undoing(sessions), Reworking(sessions), live, Sequences(sessions, live, prompting),
                    Modes(settings, engine, sessions), library,
                    process_restarts, stopping=stopping or asyncio.Event())


async def _watch_forever(services: Services, on_hang: Callable[[], object] | None,
                         on_recycle: Callable[[], object] | None) -> None:
    """Notice a device thread that has died, one that hangs, and a process that has done its share."""
    worker, settings = services.engine.worker, services.settings
    limit, mark = settings.step_timeout_s, settings.recycle_memory_mb
    recycling = Recycling(services.engine, settings.recycle_steps, mark << 20 if mark else None, lambda: services.idle)
    told = False
    while True:
        await asyncio.sleep(WATCH_INTERVAL_S)
        if worker.revive():
            logger.critical("the device's thread died and was started again")
        hung = services.engine.step_s > limit
        if hung and not told:
            logger.critical("a step has taken longer than %.0f s (STEP_TIMEOUT_S) and is taken for hung", limit)
            if on_hang is not None:
                on_hang()
        told = hung
        if on_recycle is not None and recycling.due():
            on_recycle()
            return


async def _expire_forever(sessions: SessionService) -> None:
    while True:
        await asyncio.sleep(EXPIRY_INTERVAL_S)
        try:
            await sessions.expire()
        except Exception:
            logger.exception("expired sessions could not be freed; trying again")
