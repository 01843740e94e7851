"""How a client connects: the address, the key, the time limits, and no proxy on the way to this machine itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import httpx

from sam_service.client.addresses import is_loopback, proxy_of, through_proxy
from sam_service.client.errors import InvalidArgument, Unreachable

KEY_VARIABLE = "SAM2_API_KEY"
CONNECT_TIMEOUT_S = 10.0


def checked_url(address: str) -> httpx.URL:
    """The service's address. Raises InvalidArgument (`base_url`) where it is none."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise InvalidArgument("base_url", f"is no address: {error}, in {address!r}; an IPv6 address needs brackets, such as "
                                          "http://[::1]:8002") from None
    if url.scheme not in ("http", "https") or not url.host or (url.port is not None and not 0 < url.port < 65536):
        raise InvalidArgument("base_url", f"has to be like http://127.0.0.1:8002, not {address!r}")
    return url


def connection(url: httpx.URL, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """What both kinds of httpx client are made with. The key is the argument, else that of the environment.

    The environment's proxies are for other machines: on loopback they are left out.
    """
    key = api_key if api_key is not None else os.environ.get(KEY_VARIABLE, "")
    return {"base_url": url, "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            "headers": {"X-API-Key": key} if key else {}, "trust_env": not is_loopback(url)}


@contextlib.contextmanager
def named_proxy(url: httpx.URL) -> Iterator[None]:
    """Around the making of an httpx client. Raises Unreachable where the environment names a proxy that cannot be used."""
    try:
        yield
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        proxy = proxy_of(url)
        if proxy is None:
            raise
        raise Unreachable(f"the proxy {proxy} cannot be used: {error}{through_proxy(url)}") from error
