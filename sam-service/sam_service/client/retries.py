"""When a call is worth another try, and how long to wait for it. Knows no event loop and sleeps nowhere."""

from __future__ import annotations

import random

import httpx

from sam_service.client.addresses import origin_of, through_proxy
from sam_service.client.errors import NoService, Unreachable

MAX_ERRORS = 3
FIRST_BACKOFF_S = 0.2
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
BROKEN_OFF = (httpx.NetworkError, httpx.RemoteProtocolError)


class Patience:
    """What one call may wait in all.

    An answer of 429 or 503 says that nothing was done, so every call is repeated after its `Retry-After`, until `max_wait_s`
    would be passed. A connection that fails is tried again where nothing was sent yet, or where the call is `repeatable`:
    doing it twice does what doing it once does.
    """

    def __init__(self, max_wait_s: float, *, repeatable: bool) -> None:
        self._left_s = max_wait_s
        self._repeatable = repeatable
        self._errors = 0

    def after_answer(self, response: httpx.Response) -> float | None:
        """Seconds to wait before the next try; None where the answer stands. Needs the headers only."""
        said = response.headers.get("retry-after", "")
        if response.status_code not in (429, 503) or not said.isdigit():
            return None
        return self._spend(float(said) * random.uniform(1.0, 1.2))

    def after_error(self, error: httpx.TransportError) -> float:
        """Seconds to wait before the next try. Raises Unreachable where there is none."""
        self._errors += 1
        again = isinstance(error, NEVER_SENT) or (self._repeatable and isinstance(error, BROKEN_OFF))
        pause = None
        if again and self._errors < MAX_ERRORS:
            pause = self._spend(FIRST_BACKOFF_S * 2 ** self._errors * random.uniform(0.5, 1.0))
        if pause is None:
            raise unreachable(error) from error
        return pause

    def _spend(self, pause: float) -> float | None:
        if pause > self._left_s:
            return None
        self._left_s -= pause
        return pause


def unreachable(error: httpx.TransportError) -> Unreachable:
    """The exception for a connection that failed, or that broke in the middle of an answer."""
    why = str(error) or type(error).__name__
    try:
        url = error.request.url
    except RuntimeError:
        return Unreachable(f"no answer from the service: {why}")
    proxy = through_proxy(url)
    if isinstance(error, NEVER_SENT) and not proxy:
        return NoService(origin_of(url), why)
    return Unreachable(f"no answer from the service at {origin_of(url)}{proxy}: {why}")
