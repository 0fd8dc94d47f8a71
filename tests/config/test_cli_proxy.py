"""The proxy for the heroku CLI: whom it answers for, what it passes on, and what it refuses."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from config import cli_proxy
from config.cli_proxy import AUTHORITY_FILE, HEAD_MAX_BYTES, CliProxy

URL = "http://localhost:5000"
ANSWER = b"v" * 1_000_000


@dataclass
class Web:
    """A web process that notes what it is sent and answers a megabyte."""

    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(v) for n, v in headers(head).items() if n == "content-length"), 0)
        self.heads.append(head)
        self.bodies.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
        await writer.drain()
        writer.close()


@dataclass(frozen=True, kw_only=True)
class Running:
    """A proxy before a web process."""

    port: int
    proxy: CliProxy
    web: Web
    authority_file: Path

    def client(self) -> httpx.AsyncClient:
        trusted = ssl.create_default_context(cafile=str(self.authority_file))
        return httpx.AsyncClient(proxy=f"http://127.0.0.1:{self.port}", verify=trusted)

    async def say(self, *lines: str) -> str:
        """What the proxy answers to these lines and an empty one, until it hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join([*lines, "", ""]).encode())
        answer = (await reader.read()).decode()
        writer.close()
        return answer


def headers(head: str) -> dict[str, str]:
    lines = (line.partition(": ") for line in head.strip().split("\r\n")[1:])
    return {name.lower(): value for name, _, value in lines}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    web = Web()
    async with await asyncio.start_server(web.serve, "127.0.0.1", 0) as upstream:
        proxy = CliProxy(urls=[URL], web=upstream.sockets[0].getsockname(), folder=tmp_path)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=HEAD_MAX_BYTES)
        async with server:
            port: int = server.sockets[0].getsockname()[1]
            authority_file = tmp_path / AUTHORITY_FILE
            yield Running(port=port, proxy=proxy, web=web, authority_file=authority_file)


@pytest.mark.parametrize("host", ["particleboard.heroku.com", "us.inference.heroku.com"])
async def test_https_to_a_host_of_the_cli_reaches_the_web_process(
    running: Running, host: str
) -> None:
    body = b"w" * 1_000_000
    async with running.client() as client:
        answer = await client.post(f"https://{host}/v1/embeddings?a=b", content=body)
    assert answer.content == ANSWER
    assert running.web.bodies == [body]
    [head] = running.web.heads
    assert head.startswith("POST /v1/embeddings?a=b HTTP/1.1\r\n")
    assert headers(head)["host"] == "localhost:5000"
    assert headers(head)["x-forwarded-proto"] == "https"
    assert headers(head)["connection"] == "close"


@pytest.mark.parametrize("host", ["telex.heroku.com", "localhost", "TELEX.Heroku.com"])
async def test_http_does_too_by_its_whole_url_and_through_a_tunnel(
    running: Running, host: str
) -> None:
    async with running.client() as client:
        answer = await client.get(f"http://{host}:5000/user/notifications")
    assert answer.content == ANSWER
    tunnelled = await running.say(
        f"CONNECT {host}:5000 HTTP/1.1", "", f"GET /user/notifications HTTP/1.1\r\nHost: {host}"
    )
    assert tunnelled.startswith("HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK")
    for head in running.web.heads:
        assert head.startswith("GET /user/notifications HTTP/1.1\r\n")
        assert headers(head)["x-forwarded-proto"] == "http"


async def test_the_url_that_the_ai_plugin_takes_for_a_host_is_answered_for(
    running: Running,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(f"CONNECT {URL}:443 HTTP/1.1\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
    trusted = ssl.create_default_context(cafile=str(running.authority_file))
    trusted.check_hostname = False  # Python compares names as an RFC says; node takes them as text
    await writer.start_tls(trusted)
    names = writer.get_extra_info("peercert")["subjectAltName"]
    writer.write(b"GET /models/1 HTTP/1.1\r\n\r\n")
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    assert ("DNS", URL) in names


@pytest.mark.parametrize(
    "target",
    [
        *("CONNECT backboard.heroku.com:443", "CONNECT packages.example.com:443"),
        *("CONNECT api.heroku.com.example.com:443", "CONNECT a.b.inference.heroku.com:443"),
        *("CONNECT 127.0.0.1:6379", "GET http://example.com/", "GET /user/notifications"),
    ],
)
async def test_every_other_host_is_refused_in_a_sentence(running: Running, target: str) -> None:
    answer = await running.say(f"{target} HTTP/1.1")
    assert answer.startswith("HTTP/1.1 403 Forbidden\r\n")
    assert "is no host that it has to ask" in answer
    assert running.web.heads == []


async def test_what_is_for_the_proxy_is_not_passed_on(running: Running) -> None:
    await running.say(
        *("GET http://telex.heroku.com/ HTTP/1.1", "Proxy-Authorization: Basic c2VjcmV0"),
        *("X-Forwarded-For: 10.0.0.1", "Connection: keep-alive", "Request-Id: one,two"),
    )
    [head] = running.web.heads
    assert headers(head).keys() == {"request-id", "host", "connection", "x-forwarded-proto"}


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("\x16\x03\x01", "400 Bad Request"),
        ("GET", "400 Bad Request"),
        ("GET http://[/ HTTP/1.1", "400 Bad Request"),
        ("GET http://localhost/ HTTP/1.1\r\nA: b\nX-Forwarded-For: 10.0.0.1", "400 Bad Request"),
        (f"GET http://{'x' * HEAD_MAX_BYTES}", "431 Request Header Fields Too Large"),
    ],
    ids=["TLS", "one word", "no URL", "a header in another", "too long"],
)
async def test_what_is_no_request_is_refused(running: Running, line: str, status: str) -> None:
    assert (await running.say(line)).startswith(f"HTTP/1.1 {status}\r\n")


async def test_a_client_that_says_nothing_is_hung_up_on(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_proxy, "HEAD_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_a_client_that_goes_away_takes_its_request_with_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        gone.set()
        writer.close()

    async with await asyncio.start_server(wait_for_the_end, "127.0.0.1", 0) as slow:
        monkeypatch.setattr(running.proxy, "_web", slow.sockets[0].getsockname())
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET http://api.heroku.com/ HTTP/1.1\r\n\r\n")
        await writer.drain()
        writer.close()
        await asyncio.wait_for(gone.wait(), 5)


async def test_without_a_web_process_the_cli_is_told(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.proxy, "_web", ("127.0.0.1", 1))
    async with running.client() as client:
        answer = await client.get("https://api.heroku.com/apps")
    assert answer.status_code == 503
    assert "Annex does not answer" in answer.json()["message"]


async def test_the_authority_is_made_anew_when_it_is_time(running: Running) -> None:
    first = running.authority_file.read_bytes()
    running.proxy._context(running.proxy._certified.renew_at)
    assert running.authority_file.read_bytes() == first
    running.proxy._context(running.proxy._certified.renew_at + timedelta(seconds=1))
    assert running.authority_file.read_bytes() != first
