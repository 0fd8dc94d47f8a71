"""HTTP servers of this machine that stand in for what Annex calls, and behave badly if told to."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs


@dataclass(frozen=True, kw_only=True)
class Call:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`after_s`: how long it takes; `headers`: what else it says."""

    status: int = 200
    body: bytes = b"{}"
    after_s: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False  # the connection ends without an answer


@dataclass
class StandIn:
    """What was called, and how the next calls are answered."""

    url: str
    answer: Callable[[Call], Reply]
    calls: list[Call] = field(default_factory=list)


class Listener(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


@contextmanager
def stand_in(
    reply: Reply | None = None, *, answer: Callable[[Call], Reply] | None = None
) -> Iterator[StandIn]:
    """A server on a free port of this machine, while the block runs. It answers each call with
    `reply`, or as `answer` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            call = Call(path=self.path, headers=headers, body=body)
            with lock:
                server.calls.append(call)
                reply = server.answer(call)
            time.sleep(reply.after_s)
            if not reply.is_cut:
                self._send(reply)

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in {**reply.headers, "content-length": str(len(reply.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(reply.body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client hung up, as some tests want it to

        def log_message(self, *args: object) -> None:
            """Not to the tests' output."""

    lock = threading.Lock()
    listener = Listener(("127.0.0.1", 0), Handler)
    server = StandIn(
        url=f"http://127.0.0.1:{listener.server_port}",
        answer=answer or (lambda _: reply or Reply()),
    )
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
