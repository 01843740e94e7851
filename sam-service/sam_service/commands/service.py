"""The service that a command talks to: a running one, or one of its own for as long as it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sam_service.client import SamClient, Unreachable
from sam_service.settings import Settings
from sam_service.video.decoder import prepare_decoder

MAX_WAIT_S = 30.0


@contextlib.contextmanager
def connected(url: str | None, settings: Settings | None) -> Iterator[SamClient]:
    """A client of the service at `url`, with the key of SAM2_API_KEY; without one, of a service with these settings.

    Raises Unreachable where that one does not start.
    """
    if url is not None:
        with SamClient(url, max_wait_s=MAX_WAIT_S) as client:
            yield client
        return
    from sam_service.local import local_service  # brings torch
    assert settings is not None
    prepare_decoder()
    key = settings.sam2_api_key.get_secret_value() if settings.sam2_api_key else ""
    with contextlib.ExitStack() as stack:
        try:
            own = stack.enter_context(local_service(settings))
        except RuntimeError as error:
            raise Unreachable(str(error)) from error
        yield stack.enter_context(SamClient(own, api_key=key))
