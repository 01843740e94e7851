"""The service that a command talks to: a running one, or one of its own for as long as it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx

from sam_service.client import NoService, SamClient, SamError, Unreachable
from sam_service.client.addresses import is_loopback
from sam_service.defaults import DEFAULT_PORT
from sam_service.settings import Settings

MAX_WAIT_S = 30.0


@contextlib.contextmanager
def connected(url: str | None, settings: Settings | None) -> Iterator[SamClient]:
    """A client of the service at `url`, with the key of SAM2_API_KEY; without a `url`, of a service with these settings.

    Raises Unreachable where that one does not start.
    """
    if url is not None:
        with SamClient(url, max_wait_s=MAX_WAIT_S) as client:
            yield client
        return
    from sam_service.local import local_service  # brings torch
    assert settings is not None
    key = settings.sam2_api_key.get_secret_value() if settings.sam2_api_key else ""
    with contextlib.ExitStack() as stack:
        try:
            own = stack.enter_context(local_service(settings))
        except RuntimeError as error:
            raise Unreachable(str(error)) from error
        yield stack.enter_context(SamClient(own, api_key=key))


def explained(error: SamError | OSError) -> str:
    """What went wrong, for people; where this machine runs no service, how to start one."""
    if not isinstance(error, NoService) or not is_loopback(url := httpx.URL(error.url)):
        return str(error)
    host = f" --host {url.host}" if url.host == "::1" else ""
    port = "" if url.port == DEFAULT_PORT else f" --port {url.port or 80}"
    return f"no service at {error.url}, start one with `sam-service serve{host}{port}`"
