"""A platform that can be called back, and fails on command: a real HTTP server on a free port."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


@dataclass(frozen=True, kw_only=True)
class Call:
    what: str  # the method, and the path without ids
    authorization: str
    body: Any


@dataclass(kw_only=True)
class Platform:
    """Answers as the real one does, unless `will` says otherwise of a kind of call."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    codes: set[str] = field(default_factory=lambda: {"code-1"})
    expires_in_s: int = 28_800
    issued: int = 0
    answers: dict[str, tuple[int, object]] = field(default_factory=dict)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)

    def will(self, what: str, status: int, body: object = None) -> None:
        """From now on, answer calls of the kind `what` like this."""
        self.answers[what] = (status, {} if body is None else body)

    def made(self, *without: str) -> list[str]:
        """The kinds of the calls, in their order."""
        return [call.what for call in self.calls if call.what not in without]

    def answer(self, call: Call) -> tuple[int, object]:
        if call.what in self.answers:
            return self.answers[call.what]
        match call.what:
            case "POST /oauth/token":
                return self._tokens(call.body)
            case "GET /vendor/resources/oauth-grant":
                self.codes.add("code-2")
                return 200, {"code": "code-2", "type": "authorization_code"}
            case _:
                return 200, {}

    def _tokens(self, form: dict[str, str]) -> tuple[int, object]:
        if form["grant_type"] == "authorization_code" and form["code"] not in self.codes:
            return 400, {"error": "invalid_grant"}
        self.codes.discard(form.get("code", ""))
        self.issued += 1
        return 200, {
            "access_token": f"access-{self.issued}",
            "refresh_token": "refresh-1",
            "expires_in": self.expires_in_s,
            "token_type": "Bearer",
        }


class _Handler(BaseHTTPRequestHandler):
    platform: Platform

    def handle_any(self) -> None:
        received = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        is_form = "form" in self.headers.get("Content-Type", "")
        words = [word for word in self.path.split("/") if word and len(word) != 36]  # no ids
        call = Call(
            what=f"{self.command} /{'/'.join(words)}",
            authorization=self.headers.get("Authorization", ""),
            body={name: value for name, (value,) in parse_qs(received).items()}
            if is_form
            else json.loads(received or "null"),
        )
        self.platform.calls.append(call)
        self.platform.before.get(call.what, lambda: None)()
        status, answer = self.platform.answer(call)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = handle_any  # noqa: N815 - the names that the base class calls

    def log_message(self, template: str, *args: object) -> None:
        """Quiet: the tests look at `calls`."""


@contextmanager
def running_platform() -> Iterator[Platform]:
    platform = Platform()
    handler = type("Handler", (_Handler,), {"platform": platform})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        platform.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield platform
        finally:
            server.shutdown()
            thread.join()
