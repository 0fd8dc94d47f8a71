"""A provider that misbehaves on command: a real HTTP server on a free port."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(kw_only=True)
class Call:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(kw_only=True)
class Answer:
    """`body` is sent as JSON, or as it is when it is bytes; `hangs` sends nothing at all, `raw`
    nothing but itself, without regard to HTTP."""

    status: int = 200
    body: object = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""
    hangs: bool = False
    trickles: bool = False
    trickles_headers: bool = False
    before: Callable[[], None] = lambda: None


@dataclass(kw_only=True)
class BadProvider:
    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def will(self, method: str, status: int = 200, body: object = b"", **more: Any) -> None:
        """From now on, answer `method` like this."""
        self.answers[method] = Answer(status=status, body=body, **more)

    def methods(self) -> list[str]:
        return [call.method for call in self.calls]


class _Handler(BaseHTTPRequestHandler):
    provider: BadProvider

    def handle_any(self) -> None:
        provider = self.provider
        received = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        provider.calls.append(
            Call(
                method=self.command,
                path=self.path,
                headers=dict(self.headers),
                body=json.loads(received) if received else None,
            )
        )
        answer = provider.answers[self.command]
        answer.before()
        if answer.hangs:
            provider.ended.wait(10)
            return
        if answer.raw:
            self.wfile.write(answer.raw)
            return
        if answer.trickles_headers:
            self._trickle(b"HTTP/1.1 201 Created\r\nX-Header: ")
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        if answer.trickles:
            self.end_headers()
            self._trickle(b"")
            return
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the names that the base class calls

    def _trickle(self, start: bytes) -> None:
        self.wfile.write(start)
        while not self.provider.ended.wait(0.02):
            self.wfile.write(b" ")
            self.wfile.flush()

    def log_message(self, template: str, *args: object) -> None:
        """Quiet: the tests look at `calls`."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what several tests are about."""


@contextmanager
def running_bad_provider() -> Iterator[BadProvider]:
    provider = BadProvider()
    handler = type("Handler", (_Handler,), {"provider": provider})
    with _Server(("127.0.0.1", 0), handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield provider
        finally:
            provider.ended.set()
            server.shutdown()
            thread.join()
