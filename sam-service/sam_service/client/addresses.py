"""The service's address: whether it is this machine, and which proxy lies on the way there."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from urllib.request import getproxies, proxy_bypass

import httpx


def is_loopback(url: httpx.URL) -> bool:
    """Whether an address is this machine's own: localhost, 127.0.0.0/8 or ::1."""
    try:
        number = ip_address(url.host)
    except ValueError:
        return url.host == "localhost" or url.host.endswith(".localhost")
    mapped = number.ipv4_mapped if isinstance(number, IPv6Address) else None
    return (mapped or number).is_loopback


def origin_of(url: httpx.URL) -> str:
    """Scheme, host and port, as messages name a service."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def proxy_of(url: httpx.URL) -> str | None:
    """The proxy that the environment sets for an address, without its password; None where there is none, as on loopback."""
    if is_loopback(url) or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    return found.rpartition("@")[2].rpartition("://")[2] if found else None


def through_proxy(url: httpx.URL) -> str:
    """For messages: which proxy a request went through, and how to go around it. Empty where there is none."""
    proxy = proxy_of(url)
    if proxy is None:
        return ""
    return f" (through the proxy {proxy} that {url.scheme}_proxy or all_proxy names; NO_PROXY={url.host} goes around it)"
