"""A stand-in for the model hub on loopback: the few calls that the hub's client makes for a snapshot."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

CHUNK = 1 << 20


@dataclass
class Hub:
    """repos: by name the folder of each commit; names: tags and branches by repository; pause_s: after each MiB sent."""

    url: str = ""
    repos: dict[str, dict[str, Path]] = field(default_factory=dict)
    names: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    pause_s: float = 0.0

    def publish(self, repo: str, commit: str, folder: Path, *names: str) -> None:
        """Add a commit, and let tags or branches point to it."""
        self.repos.setdefault(repo, {})[commit] = folder
        self.names.setdefault(repo, {}).update(dict.fromkeys(names, commit))

    def find(self, repo: str, revision: str) -> tuple[str, Path] | None:
        """A commit and its folder."""
        commit = self.names.get(repo, {}).get(revision, revision)
        folder = self.repos.get(repo, {}).get(commit)
        return (commit, folder) if folder else None


@contextlib.contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a hub without repositories."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, body: bool) -> None:
            path = urlsplit(self.path).path
            hub.asked.append(f"{self.command} {path}")
            match path.strip("/").split("/"):
                case ["api", "models", owner, name, "revision", revision]:
                    if found := self.lookup(f"{owner}/{name}", revision):
                        self.send(json.dumps({"id": f"{owner}/{name}", "sha": found[0], "siblings": []}).encode(), body)
                case ["api", "models", owner, name, "tree", revision]:
                    if found := self.lookup(f"{owner}/{name}", revision):
                        self.send(json.dumps([{"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
                                              for path in found[1].iterdir()]).encode(), body)
                case [owner, name, "resolve", revision, file]:
                    if found := self.lookup(f"{owner}/{name}", revision):
                        data = (found[1] / file).read_bytes()
                        self.send(data, body, {"X-Repo-Commit": found[0], "ETag": f'"{found[0][:8]}-{file}"'})
                case _:
                    self.send(b"", body, {}, 404)

        def lookup(self, repo: str, revision: str) -> tuple[str, Path] | None:
            found = hub.find(repo, revision)
            if found is None:
                why = "RevisionNotFound" if repo in hub.repos else "RepoNotFound"
                self.send(b"", True, {"X-Error-Code": why, "X-Error-Message": why}, 404)
            return found

        def send(self, data: bytes, body: bool, headers: dict[str, str] | None = None, status: int = 200) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(data) if body else 0, CHUNK):
                    self.wfile.write(data[start:start + CHUNK])
                    time.sleep(hub.pause_s)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
