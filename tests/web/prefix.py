"""A reverse proxy, as small as it can be: a prefix in the path, on loopback, in threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

HOP_BY_HOP = ("connection", "transfer-encoding", "content-length", "date", "server")


@contextlib.contextmanager
def prefixed(url: str, prefix: str, *, keep: bool) -> Iterator[str]:
    """Offer a service under a prefix, which it sees (`keep`) or not. Yields the address with the prefix."""
    http = httpx.Client(timeout=60)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            if not self.path.startswith(prefix):
                return self.send_error(404)
            path = self.path if keep else self.path.removeprefix(prefix)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            answer = http.request(self.command, url + path, content=body, headers={**headers, "X-Forwarded-For": "127.0.0.1"})
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name not in (*HOP_BY_HOP, "content-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_DELETE = do_PATCH = do_HEAD = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}{prefix}"
        finally:
            server.shutdown()
            http.close()
