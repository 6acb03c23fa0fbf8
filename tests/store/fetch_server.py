"""A server of public files in the test's own process, which can break each answer in ways that are told to it beforehand.

It also stands in for the hub: /OWNER/NAME/resolve/REVISION/FILE with the hub's headers.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40
STALL = 0.3
"""Seconds of silence; a test's patience is shorter."""
FAULTS = (
    "truncated", "stalled", "too short", "too long", "wrong bytes", "gone", "busy", "no ranges", "shifted range", "other file", "packed",
)  # fmt: skip


class Server(ThreadingHTTPServer):
    """Files by path, the faults of the next answers, and the requests that came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.status: dict[str, int] = {}
        self.heads: dict[str, dict[str, str]] = {}
        """Path -> further headers of its answers."""
        self.seen: list[tuple[str, str, str | None]] = []
        """(method, path, Range) of every request."""
        self.tokens: list[str | None] = []

    @property
    def url(self) -> str:
        """Address without a path."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """Say nothing of connections that a client, or a fault, closed."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *words) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        server, path = self.server, self.path.partition("?")[0]
        server.seen.append((self.command, path, self.headers.get("Range")))
        server.tokens.append(self.headers.get("Authorization"))
        if path in server.status or path not in server.files:
            self.send_response(server.status.get(path, 404))
            for name, value in server.heads.get(path, {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        fault = server.faults.pop(0) if server.faults and body else ""
        data = server.files[path]
        tag = hashlib.sha256(data).hexdigest()
        if fault == "gone":
            self.close_connection = True
            self.connection.close()
            return
        if fault == "busy":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "wrong bytes":
            data = bytes(255 - one for one in data)
        if fault == "other file":
            data, tag = data[::-1] + b"more", "other"
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked is not None and fault != "no ranges" and self.headers.get("If-Range", f'"{tag}"') == f'"{tag}"':
            start = int(asked[1]) + (7 if fault == "shifted range" else 0)
        self.send_response(206 if start else 200)
        rest = data[start:]
        said = len(rest) + {"too short": -len(rest) // 3, "too long": 1000}.get(fault, 0)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if fault == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(said))
        self.send_header("ETag", f'"{tag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        for name, value in server.heads.get(path, {}).items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        if fault == "truncated":
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
            return
        if fault == "stalled":
            self.wfile.write(rest[: len(rest) // 3])
            self.wfile.flush()
            time.sleep(STALL)
            self.close_connection = True
            return
        self.wfile.write(rest[:said])
        self.close_connection = bool(fault)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Run a server for the time of a block."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
