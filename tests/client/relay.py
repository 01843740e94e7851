"""A relay between a client and a service that breaks connections, and counts them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CHUNK = 4096


@dataclass
class Relay:
    """url: where the client goes. limits: after how many bytes of the answer each connection breaks, in turn; later ones hold.
    heads: what came from the client, up to the first empty line of each piece."""

    url: str
    limits: list[int]
    listener: socket.socket
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    ends: list[socket.socket] = field(default_factory=list)

    def close(self) -> None:
        """Break everything, and answer no more."""
        for end in (self.listener, *self.ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@contextlib.contextmanager
def relay(service: str, *limits: int) -> Iterator[Relay]:
    """Run a relay in front of a service."""
    target = urlsplit(service)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Relay(f"http://127.0.0.1:{listener.getsockname()[1]}", list(limits), listener)
        threading.Thread(target=_accept, args=(listener, found, (target.hostname, target.port)), daemon=True).start()
        yield found
        found.close()


def _accept(listener: socket.socket, found: Relay, target: tuple[str, int]) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            limit = found.limits[found.connections] if found.connections < len(found.limits) else None
            found.connections += 1
            server = socket.create_connection(target)
            found.ends += client, server
            threading.Thread(target=_copy, args=(client, server, None, found), daemon=True).start()
            threading.Thread(target=_copy, args=(server, client, limit, None), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket, limit: int | None, found: Relay | None) -> None:
    """Pass bytes on until one side ends, or `limit` bytes were passed; then both are closed."""
    passed = 0
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            if found is not None:
                found.heads.append(data.split(b"\r\n\r\n")[0])
            if limit is not None and passed + len(data) >= limit:
                target.sendall(data[:limit - passed])
                break
            target.sendall(data)
            passed += len(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
