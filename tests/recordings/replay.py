"""`make recordings`: every recorded command run again, by the real CLI against a real Annex.

A lane per core: each has its own PostgreSQL, Valkey, web process and worker, and its own ports.
`python -m tests.recordings.replay NAME…` runs those recordings only, and says all that differs.
"""

import asyncio
import json
import multiprocessing
import os
import queue
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import psycopg

from config.embedded_servers import free_port, running_servers
from config.guard import Guard
from config.processes import read_procfile
from tests.addon.platform.bad_provider import running_bad_provider
from tests.recordings import excused
from tests.recordings.command import Place, prepare_homes, requests_made, run
from tests.recordings.outputs import output_differences, request_differences
from tests.recordings.providers import (
    UNDER_WAY,
    OwnProvider,
    StandIn,
    finish,
    is_slow,
    state_told,
)
from tests.recordings.recorded import FOLDER, Recording, names, read_recording
from tests.recordings.rows import ACCOUNT_ID, build, sell
from tests.recordings.situations import bring_about
from tests.recordings.worlds import read_world

ROOT = FOLDER.parents[1]
MODEL_ID = "all-minilm-l6-v2"
ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "SECRET_KEY": "a-secret-key-that-only-the-replay-uses-0123456789",
    "ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "PROVIDER_PASSWORD": "provider-password-of-the-replay",
    "INVOICE_SIGNING_KEY": "an-invoice-signing-key-of-the-replay",
    "ACCOUNT_API_KEY": "HRKU-of-nobody",
    # As recorded: switchboard.cjs leads from these to the lane's own ports.
    "PUBLIC_URL": "http://127.0.0.1:8089",
    "INFERENCE_URL": "https://127.0.0.1",
    "ALLOWED_HOSTS": "*",
    "KEY_CACHE_S": "0",
    "WEB_CONCURRENCY": "1",
    "HOST": "127.0.0.1",
    "LOG_LEVEL": "WARNING",
    "OMP_NUM_THREADS": "1",
}
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")
OVER = {"provisioned", "deprovisioned", "gone"}
START_TIMEOUT_S = 120.0
CERTIFIED = (
    "IP:127.0.0.1,DNS:localhost,DNS:api.heroku.com,DNS:particleboard.heroku.com,"
    "DNS:telex.heroku.com,DNS:backboard.heroku.com,DNS:us.inference.heroku.com,"
    "DNS:api.acme.herokudev.com,DNS:inference.example.test,DNS:api.localhost,"
    "DNS:api.localhost.example.test,DNS:platform.example.test"
)


@dataclass(frozen=True, kw_only=True)
class Result:
    name: str
    differences: tuple[str, ...]
    requests: tuple[str, ...]
    seconds: float

    @property
    def verdict(self) -> str:
        is_excused = self.name in excused.OUTPUTS
        if self.differences:
            return "excused" if is_excused else "DIFFERS"
        return "SAME, BUT EXCUSED" if is_excused else "same"


class Lane:
    """One Annex, and the recordings that are replayed against it one after another."""

    def __init__(self, stack: ExitStack) -> None:
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="annex-replay-")))
        self._stack = stack
        self._guard = Guard()  # nothing outlives this process, however it ends
        stack.callback(self._guard.release)
        addresses = stack.enter_context(running_servers(self.folder, durable=False))
        self._web, tls, tunnel = free_port(), free_port(), free_port()
        separator = "&" if "?" in addresses.database_url else "?"
        for name in set(os.environ) - set(INHERITED):
            del os.environ[name]
        os.environ.update(
            ENVIRONMENT,
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            DATABASE_URL=f"{addresses.database_url}{separator}options=-c%20annex.may_truncate%3Don",
            REDIS_URL=addresses.redis_url,
            PROVIDER_URL=f"http://127.0.0.1:{self._web}",
            VAR_DIR=str(self.folder),
            PORT=str(self._web),
        )
        self.place = Place(
            folder=self.folder,
            ports=json.dumps({"8089": self._web, "443": tls, "3128": tunnel}),
            authority=self.folder / "authority.pem",
        )
        self._prepare()
        self._start("web", read_procfile(ROOT / "Procfile")["web"])
        self._start("gpu", read_procfile(ROOT / "Procfile")["gpu"])
        context = certify(self.folder, self.place.authority)
        stack.enter_context(serving_tls(context, tls, tunnel, self._web))
        self._stand_in = StandIn(server=stack.enter_context(running_bad_provider()))
        prepare_homes(self.folder)
        self._own = OwnProvider(url=f"http://127.0.0.1:{self._web}/heroku/resources")
        self._wait_until_ready()

    def _prepare(self) -> None:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)

    def _start(self, name: str, command: str) -> None:
        log = self._stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(  # noqa: S602 - the Procfile's commands are a shell's
            f"exec {command}", shell=True, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        self._guard.watch_group(process.pid)
        self._stack.callback(stop, process)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with (
                suppress(OSError, ValueError),
                urllib.request.urlopen(f"http://127.0.0.1:{self._web}/healthz") as response,
            ):
                models = json.load(response).get("models", {})
                if any(model["workers"] for model in models.values()):
                    return
            time.sleep(0.2)
        raise TimeoutError((self.folder / "web.log").read_text()[-3000:])

    def replay(self, recording: Recording) -> Result:
        began_at = time.monotonic()
        now = datetime.now(UTC)
        world = read_world(recording)
        bring_about(recording.name, world)
        slow = is_slow(recording)
        is_stand_in = slow or world.refusal
        if slow:
            self._stand_in.is_slow()
        if world.refusal:
            self._stand_in.refuses(world.refusal)
        provider = self._stand_in if is_stand_in else self._own
        empty_tables()
        sell(provider, model_id=MODEL_ID)
        build(world, provider, now)
        if world.is_inference_used_up:
            self._use_inference()
        with ExitStack() as stack:
            if slow:
                stack.enter_context(self._finishing(recording))
            if world.is_rate_limited:
                stack.enter_context(rate_limited())
            if world.is_database_away:
                stack.enter_context(database_away())
            output = run(recording, self.place, self._agree_in_the_browser)
        return Result(
            name=recording.name,
            differences=tuple(output_differences(recording, output)),
            requests=tuple(request_differences(recording, output)),
            seconds=time.monotonic() - began_at,
        )

    def _use_inference(self) -> None:
        from addon.platform.models import ConfigVar

        key = ConfigVar.objects.get(app__name="myapp", name="EMBEDDING_KEY").value
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._web}/v1/embeddings",
            data=json.dumps({"model": MODEL_ID, "input": "hello"}).encode(),
            headers={"Authorization": f"Bearer {key}"},
        )
        try:
            with urllib.request.urlopen(request) as response:  # noqa: S310 - our own address
                assert response.status == 200
        except HTTPError as error:
            assert error.code == 429  # a recording before this one has used it up

    @contextmanager
    def _finishing(self, recording: Recording) -> Iterator[None]:
        """The provider finishes while the CLI waits: once it has asked as often as recorded."""
        told = [state_told(request) for request in recording.requests]
        first = next((number for number, state in enumerate(told) if state in UNDER_WAY), 0)
        over = next(
            (number for number, state in enumerate(told) if number > first and state in OVER), None
        )
        is_done = threading.Event()
        thread = threading.Thread(target=self._finish, args=(told, over, is_done))
        if over is not None:
            thread.start()
        try:
            yield
        finally:
            is_done.set()
            if over is not None:
                thread.join()

    def _finish(self, told: Sequence[str], over: int, is_done: threading.Event) -> None:
        from django.db import connections

        while not is_done.wait(0.1):
            if len(requests_made(self.place)) >= over:
                time.sleep(1.0)  # the last of them is being answered
                finish(told[over], self._stand_in, datetime.now(UTC))
                break
        connections.close_all()

    def _agree_in_the_browser(self, seen: str) -> None:
        from addon.platform import browser_logins
        from addon.platform.accounts import find_account

        login_id = seen.split("/auth/browser/")[-1].split()[0]
        account = find_account("dev@example.com")
        browser_logins.decide(browser_logins.get_login(login_id), account)


def stop(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def empty_tables() -> None:
    from django.db import connection

    kept = ("django_", "auth_")
    tables = [
        table
        for table in connection.introspection.django_table_names(only_existing=True)
        if not table.startswith(kept)
    ]
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(tables)} CASCADE")


@contextmanager
def rate_limited() -> Iterator[None]:
    """The account has spent the requests of the next hour too."""
    from django.conf import settings
    from redis import Redis

    key = f"platform:requests:{ACCOUNT_ID}"
    with Redis.from_url(settings.REDIS_URL) as redis:
        redis.set(key, int((time.time() + 7200) * 1_000_000))
        try:
            yield
        finally:
            redis.delete(key)


@contextmanager
def database_away() -> Iterator[None]:
    """PostgreSQL lets nobody into the database."""
    from django.conf import settings
    from django.db import connections

    connections.close_all()
    name = settings.DATABASES["default"]["NAME"]
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path="/template1").geturl()
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        try:
            yield
        finally:
            other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


def certify(folder: Path, authority: Path) -> ssl.SSLContext:
    """A certificate for every name of the recordings, and the authority that signed it."""
    key, certificate, authority_key = (
        folder / name for name in ("key.pem", "certificate.pem", "authority-key.pem")
    )
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-x509"]
    own: list[str | Path] = ["-keyout", authority_key, "-out", authority]
    signed: list[str | Path] = ["-keyout", key, "-out", certificate]
    signed += ["-CA", authority, "-CAkey", authority_key]
    signed += ["-addext", f"subjectAltName={CERTIFIED}"]
    signed += ["-addext", "basicConstraints=critical,CA:FALSE"]
    for words, name in ((own, "/CN=Replay authority"), (signed, "/CN=Replay")):
        subprocess.run(
            ["openssl", "req", *new_key, *words, "-subj", name], check=True, capture_output=True
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@contextmanager
def serving_tls(context: ssl.SSLContext, tls: int, tunnel: int, web: int) -> Iterator[None]:
    """Port 443 of the recordings in front of the web process, and a CONNECT proxy before that."""
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay(reader, writer, web)

    async def serve_tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await relay(reader, writer, tls)

    async def start() -> None:
        await asyncio.start_server(serve, "127.0.0.1", tls, ssl=context)
        await asyncio.start_server(serve_tunnel, "127.0.0.1", tunnel)

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(
        copy(reader, other_writer), copy(other_reader, writer), return_exceptions=True
    )


async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while chunk := await source.read(65_536):
            sink.write(chunk)
            await sink.drain()
    finally:
        sink.close()


def work(todo: "multiprocessing.Queue[str]", done: "multiprocessing.Queue[Any]") -> None:
    """A lane's process."""
    with ExitStack() as stack:
        lane = Lane(stack)
        while True:
            try:
                name = todo.get(timeout=0.5)
            except queue.Empty:
                break
            try:
                done.put(lane.replay(read_recording(name)))
            except Exception as error:  # noqa: BLE001 - the others are replayed all the same
                done.put(
                    Result(name=name, differences=(f"{error!r}"[:2000],), requests=(), seconds=0)
                )


def main(wanted: Sequence[str]) -> int:
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        print(f"There is no recording {', '.join(unknown)}: see tests/recordings/cli/")
        return 2
    chosen = list(wanted) or names()
    context = multiprocessing.get_context("spawn")
    todo: Any = context.Queue()
    done: Any = context.Queue()
    for name in chosen:
        todo.put(name)
    lanes = min(len(chosen), int(os.environ.get("LANES") or os.cpu_count() or 1))
    processes = [context.Process(target=work, args=(todo, done)) for _ in range(lanes)]
    for process in processes:
        process.start()
    results = list(collect(done, processes, len(chosen)))
    for process in processes:
        process.join()
    return report(results, len(chosen))


def collect(done: Any, processes: Sequence[Any], count: int) -> Iterator[Result]:
    number = 0
    while number < count:
        try:
            result: Result = done.get(timeout=1)
        except queue.Empty:
            if not any(process.is_alive() for process in processes):
                return
            continue
        number += 1
        print(f"{number:3}/{count} {result.seconds:5.1f} s  {result.verdict:8} {result.name}")
        if result.verdict not in {"same", "excused"} or count == 1:
            for line in (*result.differences, *(f"requests: {line}" for line in result.requests)):
                print(f"        {line}")
        sys.stdout.flush()
        yield result


def report(results: Sequence[Result], count: int) -> int:
    print()
    for verdict in ("same", "excused", "SAME, BUT EXCUSED", "DIFFERS"):
        found = sorted(result.name for result in results if result.verdict == verdict)
        print(f"{verdict}: {len(found)}{'' if verdict == 'same' else ' ' + ', '.join(found)}")
    others = sorted(result.name for result in results if result.requests)
    print(f"other requests than recorded: {len(others)} {', '.join(others)}")
    if len(results) < count:
        print(f"{count - len(results)} were not replayed: a lane ended early")
    is_good = all(result.verdict in {"same", "excused"} for result in results)
    return 0 if is_good and len(results) == count else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
