"""What routes are handed: the use cases, kept on the application's state, and the key check."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from sam_service.core.engine import Engine
from sam_service.errors import Unauthorized
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
    threads: int


def services(request: Request) -> Services:
    """The application's services."""
    found: Services = request.app.state.services
    return found


def require_key(request: Request) -> None:
    """Refuse a call without the API key, where one is set: `Authorization: Bearer KEY` or `X-API-Key: KEY`."""
    expected = services(request).settings.sam2_api_key
    if expected is None:
        return
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    if not hmac.compare_digest(given.encode(), expected.get_secret_value().encode()):
        raise Unauthorized("this service wants its API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`")


ServicesDep = Annotated[Services, Depends(services)]
