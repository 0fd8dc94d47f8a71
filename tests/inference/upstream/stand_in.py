"""A real HTTP server that speaks Cohere's API v2 and SageMaker's runtime, and misbehaves on demand.

It checks the key and the signature, and makes a vector of each text, so that a test can tell which
text was sent. The signature is computed as AWS documents it, without botocore
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
"""

import hashlib
import hmac
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEY = "Qh3kT9wLx2VbN7cR5mYz8pFs4dGj6aEu1KoHtWi0"
ACCESS_KEY_ID = "AKIDEXAMPLEOFTHETESTS"
SECRET_ACCESS_KEY = "wJalrXUtnFEMIbK7MDENGbPxRfiCYofTheTests1"
DIMENSIONS = 16
TOKENIZER = json.dumps(
    {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"},
    }
)


def vector_of(text: str) -> NDArray[np.float64]:
    """What the stand-in answers for a text: (DIMENSIONS,), not of unit length."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=DIMENSIONS) * 3


def unit_vectors(texts: Sequence[str]) -> NDArray[np.float64]:
    rows = np.array([vector_of(text) for text in texts])
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@dataclass(frozen=True, kw_only=True)
class Call:
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


Behaviour = Callable[["_Handler", Any], None]


@dataclass
class StandIn:
    """`next` are the behaviours of the next calls; the others are answered as they should be."""

    url: str = ""
    next: deque[Behaviour] = field(default_factory=deque)
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0
    hang_ups: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def running_stand_in() -> Iterator[StandIn]:
    stand_in = StandIn()
    handler = type("Handler", (_Handler,), {"stand_in": stand_in})
    server = _Server(("127.0.0.1", 0), handler)
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answers(
    status: int, body: object = None, headers: Mapping[str, str] | None = None
) -> Behaviour:
    """Another status, or another body."""

    def behave(handler: "_Handler", _: Any) -> None:
        handler.answer(status, body, headers)

    return behave


def answers_after(seconds: float) -> Behaviour:
    """What it should, but late; counts a client that is gone by then."""

    def behave(handler: "_Handler", body: Any) -> None:
        time.sleep(seconds)
        if handler.client_is_gone():
            with handler.stand_in.lock:
                handler.stand_in.hang_ups += 1
        handler.answer_vectors(body)

    return behave


def drops(handler: "_Handler", _: Any) -> None:
    """The connection ends without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def answers_half(handler: "_Handler", _: Any) -> None:
    """The connection ends within the answer."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"embeddings": {"float": [[0.1, ')
    handler.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.stand_in.lock:
            self.stand_in.connections += 1

    def log_message(self, *args: Any) -> None:
        """Nothing on the tests' output."""

    def client_is_gone(self) -> bool:
        self.connection.settimeout(0.01)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return False
        finally:
            self.connection.settimeout(None)

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(method="GET", path=self.path, headers=headers, body=None)
        self.stand_in.calls.append(call)
        if self.stand_in.next:
            self.stand_in.next.popleft()(self, None)
        elif self.path == "/tokenizers/embed.json":
            self.answer(200, TOKENIZER)
        elif headers.get("authorization") != f"Bearer {KEY}":
            self.answer(401, {"message": "invalid api token"})
        else:
            url = f"{self.stand_in.url}/tokenizers/embed.json"
            self.answer(200, {"name": "embed-v4.0", "tokenizer_url": url})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(raw)
        with self.stand_in.lock:
            self.stand_in.calls.append(
                Call(method="POST", path=self.path, headers=headers, body=body)
            )
            behave = self.stand_in.next.popleft() if self.stand_in.next else None
            self.stand_in.at_once += 1
            self.stand_in.most_at_once = max(self.stand_in.most_at_once, self.stand_in.at_once)
        try:
            if self.path.endswith("/invocations"):
                is_known = is_signed("POST", self.path, headers, raw)
            else:
                is_known = headers.get("authorization") == f"Bearer {KEY}"
            if not is_known:
                self.answer(403 if self.path.endswith("/invocations") else 401, {"message": "no"})
            elif behave is not None:
                behave(self, body)
            else:
                self.answer_vectors(body)
        finally:
            with self.stand_in.lock:
                self.stand_in.at_once -= 1

    def answer_vectors(self, body: Any) -> None:
        rows = [vector_of(text).tolist() for text in body["texts"]]
        self.answer(200, {"id": "1", "embeddings": {"float": rows}, "texts": body["texts"]})

    def answer(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        if isinstance(body, bytes):
            content = body
        else:
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def is_signed(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a request carries AWS's signature, version 4, by the secret of these tests."""
    authorization = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8}/([^/]+)/([^/]+)/aws4_request), "
        r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})",
        headers.get("authorization", ""),
    )
    if authorization is None:
        return False
    key_id, scope, region, service, names, signature = authorization.groups()
    lines = [f"{name}:{headers[name].strip()}\n" for name in names.split(";")]
    content_hash = hashlib.sha256(body).hexdigest()
    canonical = f"{method}\n{path}\n\n{''.join(lines)}\n{names}\n{content_hash}"
    at = headers["x-amz-date"]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    secret = f"AWS4{SECRET_ACCESS_KEY}".encode()
    for part in (at[:8], region, service, "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    to_sign = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}"
    expected = hmac.digest(secret, to_sign.encode(), "sha256").hex()
    is_ours = key_id == ACCESS_KEY_ID and service == "sagemaker"
    return is_ours and hmac.compare_digest(signature, expected)
