"""HTTP for the embeddings routes: ASGI with no framework between.

Django's ASGI handler costs about a millisecond of processor time a request, more than everything
else on the path together (see docs/adr/0003-embeddings-bypass-django.md).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]


class BodyTooLarge(Exception):
    """The request's body is over the limit."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.max_bytes = max_bytes


class BodyTooSlow(Exception):
    """The request's body did not arrive in time."""


class UnsupportedEncoding(Exception):
    """The body is compressed."""


class UnknownPath(Exception):
    """There is no such route."""


class ClientDisconnected(Exception):
    """The client hung up, or ended its request early."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send) -> None:
        headers = {
            "content-type": "application/json",
            "content-length": str(len(self.body)),
            **self.headers,
        }
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": self.body})


def json_response(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(status=status, body=json.dumps(content).encode(), headers=headers or {})


def find_header(scope: Scope, name: bytes) -> str | None:
    """The value of the first header of that lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as it is known to be, BodyTooSlow after
    `timeout_s`, ClientDisconnected."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_body(scope, receive, max_bytes)
    except TimeoutError:
        raise BodyTooSlow from None


async def _read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    encoding = find_header(scope, b"content-encoding")
    if encoding not in (None, "", "identity"):
        raise UnsupportedEncoding(encoding)
    declared = find_header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > max_bytes:
        raise BodyTooLarge(max_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise BodyTooLarge(max_bytes)
        if not message.get("more_body", False):
            return b"".join(parts)


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, whose request's body was read; cancel it when the client hangs up.

    Raises ClientDisconnected once the cancelled work has cleaned up.
    """
    task = asyncio.ensure_future(work)
    hang_up = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, hang_up}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnected
    finally:
        hang_up.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
