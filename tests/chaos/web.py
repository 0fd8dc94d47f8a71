"""The web process with faults: `granian … tests.chaos.web:application`.

A request brings its faults in a header. They strike at the steps of that request, and at sending a
task and reading a reply while that request waits for its vectors.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from config.asgi import application as annex

# isort: split
# Django, which the line above sets up, must be so before anything below is imported.
from billing.local_share import FailoverLimiter
from billing.metering import Ledger
from inference import embeddings, idempotency, views
from inference.dispatch import Dispatcher, WorkerUnavailable
from inference.http import find_header
from tests.chaos import haste  # noqa: F401 - shortens times
from tests.chaos.faults import HEADER, Fault, Striker, decode
from tests.chaos.schedule import MODEL_ID

_striker = Striker(refusal=WorkerUnavailable(MODEL_ID, "a fault"))
_faults: ContextVar[tuple[Fault, ...]] = ContextVar("faults", default=())
_of_waiting: list[Fault] = []


def _break_at(owner: Any, name: str, step: str) -> None:
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        with _striker.at(step, _faults.get()):
            return await function(*args, **kwargs)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with _striker.at(step, _faults.get()):
            return function(*args, **kwargs)

    setattr(owner, name, awaited if inspect.iscoroutinefunction(function) else called)


def _break_keep() -> None:
    make = idempotency._keeper

    def make_breakable(claim: idempotency.Claim) -> idempotency.Keep:
        keep = make(claim)

        async def breakable(*args: Any) -> None:
            with _striker.at("keep", _faults.get()):
                await keep(*args)

        return breakable

    idempotency._keeper = make_breakable


def _break_dispatch() -> None:
    """Tasks and replies belong to many requests: to those that wait for vectors."""
    encode, send, deliver = Dispatcher.encode, Dispatcher._send, Dispatcher._deliver

    async def waiting(self: Dispatcher, *args: Any, **kwargs: Any) -> Any:
        with _waiting(), _striker.at("encode", _faults.get()):
            return await encode(self, *args, **kwargs)

    async def breakable_send(self: Dispatcher, tasks: Any) -> None:
        with _striker.at("publish", tuple(_of_waiting)):
            await send(self, tasks)

    def breakable_deliver(self: Dispatcher, message: bytes) -> None:
        with _striker.at("reply", tuple(_of_waiting)):
            deliver(self, message)

    Dispatcher.encode = waiting  # type: ignore[method-assign]
    Dispatcher._send = breakable_send  # type: ignore[method-assign]
    Dispatcher._deliver = breakable_deliver  # type: ignore[method-assign]


@contextmanager
def _waiting() -> Iterator[None]:
    faults = _faults.get()
    _of_waiting.extend(faults)
    try:
        yield
    finally:
        for fault in faults:
            _of_waiting.remove(fault)


_break_at(views, "authenticate", "authenticate")
_break_at(idempotency, "_finished", "claim")
_break_at(embeddings, "tokenize_texts", "tokenise")
_break_at(FailoverLimiter, "reserve", "reserve")
_break_dispatch()
_break_keep()
_break_at(Ledger, "record", "record")
_break_at(FailoverLimiter, "settle", "settle")
_break_at(FailoverLimiter, "give_back", "give back")
_break_at(idempotency, "_let_go", "let go")
_break_at(idempotency, "_replay", "replay")


async def application(scope: Any, receive: Any, send: Any) -> None:
    header = find_header(scope, HEADER.encode()) if scope["type"] == "http" else None
    if header is None:
        await annex(scope, receive, send)
        return
    faults = decode(header)
    _faults.set(faults)

    async def breakable_send(message: Any) -> None:
        part = "head" if message["type"] == "http.response.start" else "body"
        with _striker.at(f"send {part}", faults):
            await send(message)

    await annex(scope, receive, breakable_send)
