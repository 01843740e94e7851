"""What routes are handed: the use cases, kept on the application's state."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from sam_service.api.modes import Modes
from sam_service.api.sharing import Shared
from sam_service.core.engine import Engine
from sam_service.sessions.exporting import Exporting
from sam_service.sessions.library import Library
from sam_service.sessions.live import Live
from sam_service.sessions.prompting import Prompting
from sam_service.sessions.propagation import Propagation
from sam_service.sessions.reworking import Reworking
from sam_service.sessions.sequences import Sequences
from sam_service.sessions.service import SessionService
from sam_service.sessions.undoing import Undoing
from sam_service.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that routes use."""

    settings: Settings
    engine: Engine
    sessions: SessionService
    prompting: Prompting
    propagation: Propagation
    exporting: Exporting
    undoing: Undoing
    reworking: Reworking
    live: Live
    sequences: Sequences
    modes: Modes
    library: Library
    process_restarts: int = 0
    recycled: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    shared: Shared = field(default_factory=Shared)

    @property
    def idle(self) -> bool:
        """Whether no request is being answered, nothing waits for the device or runs on it, and no propagation is under way."""
        worker = self.engine.worker
        return not (self.engine.telemetry.requests_running or worker.queued or worker.busy_s
                    or any(session.busy for session in self.sessions.sessions()))

    def begin_stop(self) -> None:
        """The process is about to end: refuse new work, and pause what runs within a frame, for the next process to resume."""
        self.stopping.set()
        self.engine.refuse()
        self.sessions.begin_stop()
        self.propagation.begin_stop()
        self.exporting.begin_stop()


def services(request: Request) -> Services:
    """The application's services."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]
