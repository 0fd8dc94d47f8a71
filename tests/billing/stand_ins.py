"""HTTP servers of this machine that stand in for what Annex calls, and behave badly if told to."""

import json
import threading
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
    """What was called, and how the next calls are answered; whether a client hung up before it had
    read all of an answer."""

    url: str
    answer: Callable[[Call], Reply]
    calls: list[Call] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)


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
            is_over.wait(reply.after_s)
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
                self.close_connection = True
                server.hung_up.set()

        def log_message(self, *args: object) -> None:
            """Not to the tests' output."""

    lock, is_over = threading.Lock(), threading.Event()
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
        is_over.set()
        listener.shutdown()
        thread.join()
        listener.server_close()
