"""`GET /metrics`: everything that is measured, as Prometheus reads it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from sam_service import __version__
from sam_service.api.deps import Services, ServicesDep
from sam_service.telemetry import Reading

router = APIRouter(tags=["service"])


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response,
            responses={200: {"content": {"text/plain": {}}, "description": "the text format of Prometheus"}})
def metrics(services: ServicesDep) -> Response:
    """Counters, gauges and histograms in the text format; `docs/operations.md` lists them."""
    return Response(generate_latest(services.engine.telemetry.registry), media_type=CONTENT_TYPE_LATEST)


def observe_state(services: Services) -> None:
    """Let each scrape read how the service stands."""
    telemetry = services.engine.telemetry
    telemetry.read_when_asked(lambda: _gauges(services), lambda: _counters(services))
    telemetry.build.info({"version": __version__, "model": services.settings.sam2_model_size, "torch": version("torch")})


def _gauges(services: Services) -> Iterator[Reading]:
    engine, sessions = services.engine, services.sessions.sessions()
    states = Counter("tracking" if session.busy else "idle" for session in sessions)
    yield "ready", "1 while the model is loaded and work is taken", float(engine.ready)
    yield "steps_waiting", "steps that wait for the device", float(engine.worker.queued)
    yield "worker_busy_seconds", "time that the step on the device has taken so far", engine.worker.busy_s
    yield "sessions", "open sessions", {f"state={state}": float(states[state]) for state in ("idle", "tracking")}
    yield "objects_tracked", "objects of all open sessions", float(sum(len(session.prompts) for session in sessions))
    yield "feature_cache_bytes", "image features held", {"tier=memory": float(engine.cache_nbytes),
                                                        "tier=disk": float(engine.disk_nbytes)}
    yield "memory_spill_bytes", "tracking memory of all sessions on disk", float(
        sum(session.spilled_bytes for session in sessions))
    yield "disk_free_bytes", "room on the disk of the data folder", float(
        shutil.disk_usage(services.settings.sam2_data_dir.resolve()).free)


def _counters(services: Services) -> Iterator[Reading]:
    yield "worker_restarts", "restarts of the device's thread, or of the process: for a step that hung, or on purpose", {
        "reason=thread": float(services.engine.worker.restarts), "reason=process": float(services.process_restarts),
        "reason=recycled": float(services.recycled)}
