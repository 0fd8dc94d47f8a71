"""A load generator that costs little beside what it measures: keep-alive connections, each with one
request under way, written as prepared bytes on asyncio's raw protocol.

`run_load` runs it in a process of its own, which speaks JSON: a `Load` in, a `LoadResult` out.
"""

import asyncio
import re
import subprocess
import sys
import time
from itertools import cycle
from typing import cast

import msgspec
import uvloop

SHOWN_MAX_CHARACTERS = 1_000
ANSWER_TIMEOUT_S = 60.0  # without any answer for this long, the server counts as hung

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class LoadFailed(Exception):
    """A request was not answered with 200; the message says what came instead."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. The connections take the requests in turn, from the first again at the end."""

    host: str
    port: int
    requests: list[bytes]
    connections: int
    seconds: float


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, every one of it with status 200.

    requests: answered within `seconds`, with their latencies in order of arrival; answered: also
    those that were under way at the end; client_cpu_s: what the client itself used.
    """

    requests: int
    seconds: float
    latencies_s: list[float]
    answered: int
    client_cpu_s: float

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.seconds

    def latency_ms(self, percent: float) -> float:
        """The latency that `percent` of the requests did not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


def http_post(path: str, body: bytes, *, host: str, key: str = "") -> bytes:
    """A request's bytes: JSON posted to `path`, with a bearer key if one is given."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def run_load(
    host: str, port: int, requests: list[bytes], connections: int, seconds: float
) -> LoadResult:
    """Send `requests` over and over for `seconds`, from a process of its own.

    Raises LoadFailed as soon as an answer has another status than 200 or does not come.
    """
    load = Load(host=host, port=port, requests=requests, connections=connections, seconds=seconds)
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=msgspec.json.encode(load),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise LoadFailed(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    return msgspec.json.decode(done.stdout, type=LoadResult)


async def generate(load: Load) -> LoadResult:
    """Run the load in this process."""
    loop = asyncio.get_running_loop()
    requests = cycle(load.requests)
    started, cpu_started = time.perf_counter(), time.process_time()
    ends_at = started + load.seconds
    connections = [_Connection(requests, ends_at) for _ in range(load.connections)]
    for connection in connections:
        await loop.create_connection(lambda c=connection: c, load.host, load.port)  # type: ignore[misc]
    await asyncio.gather(*[connection.finished for connection in connections])
    answers = sorted(answer for connection in connections for answer in connection.answers)
    latencies_s = [latency_s for arrived_at, latency_s in answers if arrived_at <= ends_at]
    return LoadResult(
        requests=len(latencies_s),
        seconds=load.seconds,
        latencies_s=latencies_s,
        answered=len(answers),
        client_cpu_s=time.process_time() - cpu_started,
    )


class _Connection(asyncio.Protocol):
    """One request after the other until `ends_at`; `finished` when the last one is answered."""

    def __init__(self, requests: "cycle[bytes]", ends_at: float) -> None:
        self.answers: list[tuple[float, float]] = []  # arrived at, latency in seconds
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._ends_at = ends_at
        self._buffer = bytearray()
        self._sent_at = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            end = find_end(self._buffer)
        except (LoadFailed, ValueError) as error:
            self._finish(LoadFailed(str(error)))
            return
        if end is None:
            return
        now = time.perf_counter()
        if self._buffer[9:12] != b"200":
            self._finish(LoadFailed(repr(bytes(self._buffer[:end]))[:SHOWN_MAX_CHARACTERS]))
            return
        self.answers.append((now, now - self._sent_at))
        del self._buffer[:end]
        if now < self._ends_at:
            self._send()
        else:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(LoadFailed(f"the server closed the connection ({exc})"))

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def _watch(self) -> None:
        """Once in a while rather than a timer for each request."""
        if self.finished.done():
            return
        if time.perf_counter() - self._sent_at > ANSWER_TIMEOUT_S:
            self._finish(LoadFailed(f"no answer for {ANSWER_TIMEOUT_S:.0f} s"))
        asyncio.get_running_loop().call_later(1.0, self._watch)

    def _finish(self, error: Exception | None = None) -> None:
        if self.finished.done():
            return
        if error is None:
            self.finished.set_result(None)
        else:
            self.finished.set_exception(error)
        self._transport.close()


def find_end(buffer: bytes | bytearray) -> int | None:
    """Where the response at the start of `buffer` ends; None while it is not complete."""
    head_end = buffer.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    start = head_end + 4
    length = _CONTENT_LENGTH.search(buffer, 0, start)
    if length is not None:
        end = start + int(length[1])
        return end if len(buffer) >= end else None
    if _CHUNKED.search(buffer, 0, start):
        return _find_chunks_end(buffer, start)
    raise LoadFailed("a response with neither Content-Length nor chunks")


def _find_chunks_end(buffer: bytes | bytearray, start: int) -> int | None:
    while True:
        line_end = buffer.find(b"\r\n", start)
        if line_end < 0:
            return None
        size = int(buffer[start:line_end].partition(b";")[0], 16)
        start = line_end + 2 + size + 2
        if len(buffer) < start:
            return None
        if size == 0:
            return start


def main() -> None:
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(generate(load))))


if __name__ == "__main__":
    main()
