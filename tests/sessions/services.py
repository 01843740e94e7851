"""The real service without HTTP: its engine, its worker, its store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sam_service.api.app import build_services
from sam_service.api.deps import Services

from tests.support import settings


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something, at most a minute."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(folder: Path, *, restored: bool = False, **options: object) -> AsyncIterator[Services]:
    """The services of one process on the folder, its model loaded. restored: with what an earlier process has left."""
    services = build_services(settings(sam2_data_dir=folder / "data", **options))
    services.engine.start()
    if restored:
        services.sessions.restore()
        services.propagation.restore()
    try:
        await until(lambda: services.engine.ready)
        yield services
    finally:
        services.begin_stop()
        services.exporting.close()
        await services.sessions.close()
        services.engine.stop(10)
        services.sessions.store.close()
