"""Servers that never finish, below TLS and without it."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from django.utils import timezone

from addon.call_deadlines import CallDeadline
from config.certificates import certify

DEADLINE_S = 0.3


@contextmanager
def server(context: ssl.SSLContext | None, start: bytes) -> Iterator[int]:
    """Answers one connection with `start` and then a space now and then; yields its port."""
    ended = threading.Event()

    def serve() -> None:
        plain, _ = listener.accept()
        with suppress(OSError):
            peer = plain if context is None else context.wrap_socket(plain, server_side=True)
            with peer:
                peer.recv(10_000)
                peer.sendall(start)
                while not ended.wait(0.02):
                    peer.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join(5)


@pytest.mark.parametrize("is_tls", [True, False])
@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_call_ends_at_its_deadline(is_tls: bool, start: bytes, tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    context = certify(["localhost"], authority, timezone.now()).context if is_tls else None
    verify = ssl.create_default_context(cafile=authority) if is_tls else True
    with server(context, start) as port:
        url = f"{'https' if is_tls else 'http'}://localhost:{port}/"
        started_at = time.monotonic()
        with CallDeadline(DEADLINE_S) as deadline, suppress(httpx.HTTPError):
            httpx_get(url, verify, deadline)
        assert time.monotonic() - started_at < DEADLINE_S + 2
    assert deadline.has_passed


def test_a_deadline_passes_in_time_beside_a_later_one_that_came_first() -> None:
    with CallDeadline(30) as later, CallDeadline(0.1) as earlier:
        time.sleep(0.4)
    assert earlier.has_passed
    assert not later.has_passed


def test_what_is_over_has_no_deadline() -> None:
    with CallDeadline(0.1) as over:
        pass
    with CallDeadline(0.2) as watched:
        time.sleep(0.5)
    assert watched.has_passed
    assert not over.has_passed


def httpx_get(url: str, verify: ssl.SSLContext | bool, deadline: CallDeadline) -> None:
    with httpx.Client(verify=verify, timeout=30, trust_env=False) as client:
        client.get(url, extensions={"trace": deadline.trace})
