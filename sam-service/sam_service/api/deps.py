"""What routes are handed: the use cases, kept on the application's state, and the key check."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from fastapi.requests import HTTPConnection
from pydantic import SecretStr

from sam_service.core.engine import Engine
from sam_service.errors import Unauthorized
from sam_service.sessions.exporting import Exporting
from sam_service.sessions.prompting import Prompting
from sam_service.sessions.propagation import Propagation
from sam_service.sessions.service import SessionService
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
    threads: int
    process_restarts: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

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


def require_key(request: Request) -> None:
    """Refuse a call without the API key, where one is set: `Authorization: Bearer KEY` or `X-API-Key: KEY`."""
    expected = services(request).settings.sam2_api_key
    if expected is None:
        return
    if not is_key(given_key(request), expected):
        raise Unauthorized("this service wants its API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`")


def given_key(connection: HTTPConnection) -> str:
    """The key that a request's headers carry, or nothing."""
    scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
    return bearer if scheme.lower() == "bearer" else connection.headers.get("x-api-key", "")


def is_key(given: str, expected: SecretStr) -> bool:
    """Whether a key is the service's, in a time that does not depend on where it is wrong."""
    return hmac.compare_digest(given.encode(), expected.get_secret_value().encode())


ServicesDep = Annotated[Services, Depends(services)]
