"""The proxy through which the heroku CLI reaches this Annex under the names of Heroku's hosts.

`heroku notifications` always calls telex.heroku.com, and the AI plugin takes the value of a URL
for the name of a host that speaks HTTPS on port 443. `bin/annex` runs the CLI with this proxy,
which answers for those names from the web process and for no others: nothing goes to the internet.
Run as `python -m config.cli_proxy`, by `make up`.
"""

import asyncio
import json
import logging
import os
import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from config.certificates import Certified, certify
from config.up import find_place

logger = logging.getLogger(__name__)

HOSTS = ("api.heroku.com", "cli-auth.heroku.com", "particleboard.heroku.com", "telex.heroku.com")
INFERENCE_HOSTS = "*.inference.heroku.com"
AUTHORITY_FILE = "cli-authority.pem"

HEAD_MAX_BYTES = 32_768  # the CLI's Request-Id alone grows to 7 KB
HEAD_TIMEOUT_S = 10.0
# Longer than the CLI waits (60 s), but for what its user has to do in a browser (10 minutes).
EXCHANGE_TIMEOUT_S = 600.0
CONNECTIONS_MAX = 100
CHUNK_BYTES = 65_536

# What concerns the connection, or says what only a proxy can know.
NOT_PASSED_ON = ("host", "connection", "keep-alive", "proxy-", "forwarded", "x-forwarded-")


class Refused(Exception):
    """A request that is not passed on: the status, and a sentence that says why."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class CliProxy:
    """`urls` are this Annex's own addresses; `web` is where its web process listens."""

    def __init__(self, *, urls: Sequence[str], web: tuple[str, int], folder: Path) -> None:
        hostnames = [urlsplit(url).hostname or "" for url in urls]
        # The plugin's "host" is the URL without https://, so with its http:// and its port.
        plugins_names = [url.lower().removeprefix("https://") for url in urls]
        self._hosts = {*HOSTS, INFERENCE_HOSTS, *hostnames, *plugins_names}
        self._web = web
        self._web_host = urlsplit(urls[0]).netloc
        self._authority_file = folder / AUTHORITY_FILE
        self._certified = self._certify(datetime.now(UTC))
        self._slots = asyncio.Semaphore(CONNECTIONS_MAX)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, which brings one request."""
        try:
            async with asyncio.timeout(EXCHANGE_TIMEOUT_S), self._slots:
                await self._exchange(reader, writer)
        except (OSError, asyncio.IncompleteReadError) as error:  # also of TLS, and of time
            logger.info("a connection ended early: %r", error)
        except Refused as refusal:
            logger.warning("refused: %s", refusal)
            writer.write(_refusal(refusal))
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, headers = await _read_head(reader)
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            self._require_ours(host)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            is_tls = port == "443"
            if is_tls:
                await writer.start_tls(
                    self._context(datetime.now(UTC)), ssl_handshake_timeout=HEAD_TIMEOUT_S
                )
            method, target, headers = await _read_head(reader)
        else:
            is_tls = False
            host, target = _split(target)
            self._require_ours(host)
        passed_on = [line for line in headers if not line.lower().startswith(NOT_PASSED_ON)]
        passed_on += [f"Host: {self._web_host}", "Connection: close"]
        passed_on += [f"X-Forwarded-Proto: {'https' if is_tls else 'http'}"]
        head = "\r\n".join([f"{method} {target} HTTP/1.1", *passed_on, "", ""]).encode("latin-1")
        await self._relay(reader, writer, head)

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes
    ) -> None:
        """Send the head and what follows to the web process, and its answer back."""
        try:
            web_reader, web_writer = await asyncio.open_connection(*self._web)
        except OSError as error:
            raise Refused("503 Service Unavailable", f"Annex does not answer: {error}.") from error
        web_writer.write(head)
        request = asyncio.create_task(_copy(reader, web_writer))
        try:
            await _copy(web_reader, writer)
        finally:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    def _require_ours(self, host: str) -> None:
        host = host.lower()
        subdomain = host.partition(".")[2]
        if host not in self._hosts and f"*.{subdomain}" not in self._hosts:
            raise Refused(
                "403 Forbidden",
                f"Annex answers the heroku CLI, and {host!a} is no host that it has to ask.",
            )

    def _context(self, now: datetime) -> ssl.SSLContext:
        if now > self._certified.renew_at:
            self._certified = self._certify(now)
        return self._certified.context

    def _certify(self, now: datetime) -> Certified:
        return certify(sorted(self._hosts), self._authority_file, now)


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, str, list[str]]:
    """Method, target and header lines of a request."""
    try:
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
        first, *headers = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ")
        if b"\n" in head.replace(b"\r\n", b""):
            raise ValueError  # the web process might read two headers where one was looked at
    except asyncio.LimitOverrunError:
        raise Refused(
            "431 Request Header Fields Too Large",
            f"The headers of a request may have {HEAD_MAX_BYTES} bytes.",
        ) from None
    except ValueError:
        raise Refused("400 Bad Request", "This is a proxy for HTTP, and that was none.") from None
    return method, target, headers


def _split(url: str) -> tuple[str, str]:
    """The host, and what the web process is asked for."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts._replace(scheme="", netloc="").geturl() or "/"
    except ValueError:
        raise Refused("400 Bad Request", f"{url[:100]!a} is no URL.") from None


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Until the source ends, however it does; then the sink is told."""
    try:
        while chunk := await source.read(CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
    finally:
        sink.close()


def _refusal(refused: Refused) -> bytes:
    """In the form whose message the CLI prints."""
    body = json.dumps({"id": "proxy", "message": str(refused)}).encode()
    head = (
        f"HTTP/1.1 {refused.status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def run(port: int) -> None:
    """Serve until cancelled, by what `make up` has put into the environment."""
    place = find_place(os.environ)
    urls = [os.environ.get(name, place.url) for name in ("PUBLIC_URL", "INFERENCE_URL")]
    proxy = CliProxy(
        urls=[url.rstrip("/") for url in (*urls, place.url)],
        web=(place.probe_host, place.port),
        folder=place.var,
    )
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port, limit=HEAD_MAX_BYTES)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with suppress(KeyboardInterrupt):
        asyncio.run(run(int(os.environ["CLI_PROXY_PORT"])))
