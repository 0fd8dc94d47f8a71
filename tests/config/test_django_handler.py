"""One thread for a whole request."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from config.django_handler import DjangoHandler

pytestmark = pytest.mark.urls(__name__)

SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/echo",
    "query_string": b"",
    "headers": [(b"host", b"localhost"), (b"content-type", b"text/plain")],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 2),
}


def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body + threading.current_thread().name.encode())


def fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a view that fails")


class Ended:
    """Whether the stream was closed, and how often."""

    times = 0


async def _for_ever() -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"."
            await asyncio.sleep(0.001)
    finally:
        Ended.times += 1


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(_for_ever())


urlpatterns = [
    path("echo", csrf_exempt(echo)),
    path("fail", csrf_exempt(fail)),
    path("stream", csrf_exempt(stream)),
]


class Client:
    """Sends one request, and hangs up once `hang_up` is set."""

    def __init__(self, body: bytes = b"") -> None:
        self.sent: list[Any] = []
        self.hang_up = asyncio.Event()
        self._coming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive(self) -> Any:
        if self._coming:
            return self._coming.pop()
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Any) -> None:
        self.sent.append(event)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent[1:])


@pytest.fixture
def signalled() -> Iterator[list[str]]:
    """The threads that the beginning and the end of requests were signalled in."""
    threads: list[str] = []

    def note(**_: object) -> None:
        threads.append(threading.current_thread().name)

    request_started.connect(note)
    request_finished.connect(note)
    yield threads
    request_started.disconnect(note)
    request_finished.disconnect(note)


async def test_a_request_stays_in_one_thread_and_later_ones_use_it_again(
    signalled: list[str],
) -> None:
    handler, threads = DjangoHandler(), []
    for _ in range(20):
        client = Client(b"in ")
        await handler(SCOPE, client.receive, client.send)
        assert client.status == 200
        threads.append(client.body.decode().removeprefix("in "))
        assert threads[-1].startswith("django")
        assert signalled == [threads[-1]] * 2
        signalled.clear()
    assert len(set(threads)) < 5  # not one: a thread may be asked for before the last one is free


async def test_requests_at_the_same_time_do_not_wait_for_each_other() -> None:
    handler, both_there = DjangoHandler(), threading.Barrier(2, timeout=10)

    def meet(**_: object) -> None:
        both_there.wait()

    request_started.connect(meet)
    clients = [Client(), Client()]
    try:
        await asyncio.gather(*(handler(SCOPE, each.receive, each.send) for each in clients))
    finally:
        request_started.disconnect(meet)
    assert [client.status for client in clients] == [200, 200]


async def test_a_view_that_fails_is_answered_and_its_request_is_ended(
    signalled: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    with override_settings(DEBUG=False):
        await DjangoHandler()({**SCOPE, "path": "/fail"}, client.receive, client.send)
    assert client.status == 500
    assert len(signalled) == 2
    assert "a view that fails" in caplog.text


async def test_a_stream_ends_when_its_client_hangs_up(signalled: list[str]) -> None:
    client, before = Client(), Ended.times
    handling = asyncio.ensure_future(
        DjangoHandler()({**SCOPE, "path": "/stream"}, client.receive, client.send)
    )
    while len(client.body) < 5:
        await asyncio.sleep(0.001)
    assert Ended.times == before
    client.hang_up.set()
    await asyncio.wait_for(handling, timeout=10)
    assert Ended.times == before + 1
    assert len(signalled) == 2


async def test_who_hangs_up_before_the_body_is_whole_is_not_answered(signalled: list[str]) -> None:
    client = Client()
    client._coming[0]["more_body"] = True
    client.hang_up.set()
    await DjangoHandler()(SCOPE, client.receive, client.send)
    assert client.sent == []
    assert signalled == []
