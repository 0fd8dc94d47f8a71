"""A deployment of Annex to be killed: durable servers, two web processes, workers; all respawned.

Each process is started anew as soon as it has ended, as a supervisor would. Everything is stopped
at the end of the block, and by a guard if this process is killed.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import psycopg
from django.conf import settings
from redis import Redis, RedisError

from config.embedded_servers import Postgres, Valkey
from config.guard import Guard
from config.processes import read_procfile
from tests.chaos.faults import FOLDER_VARIABLE, Folder
from tests.chaos.schedule import WEBS, WORKERS

PLAN = "standard"
ROOT = Path(settings.BASE_DIR)
HOST = "127.0.0.1"
# Below the ports that clients are given, so that none of them has a dead process's port.
PORTS = range(9600, 9700)
REQUEST_TIMEOUT_S = 3.0
POLL_S = 0.01
STOP_TIMEOUT_S = 20.0
HEAL_TIMEOUT_S = 30.0
LAST_CHARACTERS = 6_000

COMMANDS = {
    "instant": "python -m tests.chaos.instant_worker",
    "engine": "python -m tests.chaos.engine_worker",
}
PREPARE = """
import sys, uuid
import django
django.setup()
from django.core.management import call_command
from django.utils import timezone
call_command("migrate", verbosity=0)
call_command("sync_catalogue", verbosity=0)
from addon.provider.provisioning import AttachmentRequest, ProvisionRequest, provision
for name in sys.argv[2:]:
    attachment = AttachmentRequest(id=uuid.uuid4(), name="EMBEDDING", app_name=name)
    request = ProvisionRequest(
        uuid=uuid.uuid4(), name=f"inference-{name}-1", plan_slug=sys.argv[1],
        region="amazon-web-services::us-east-1", options={}, callback_url="",
        attachment=attachment,
    )
    print(request.uuid, attachment.id, provision(request, timezone.now()).config["INFERENCE_KEY"])
"""

T = TypeVar("T")


class Attachment(NamedTuple):
    """`customer_id`: that of its resource, which pays by itself."""

    customer_id: str
    id: str
    key: str


class _Member(Protocol):
    """What runs, and is started again."""

    name: str
    log: Path

    def start(self) -> None: ...

    @property
    def has_ended(self) -> bool: ...

    def stop(self) -> None: ...


class _Command:
    """A process of the Procfile, or what stands for it."""

    def __init__(
        self, name: str, command: str, environ: Mapping[str, str], folder: Path, guard: Guard
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = command
        self._environ = environ
        self._pid_file = Folder(folder).pids / name
        self._guard = guard
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S602 - the Procfile's commands are a shell's
                f"exec {self._command}",
                shell=True,
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._guard.watch_group(self._process.pid)
        self._pid_file.write_text(f"{self._process.pid}\n")

    @property
    def has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_TIMEOUT_S)


class Deployment:
    """`urls`: of the web processes; `deaths`: who ended when, in unix seconds."""

    def __init__(self, folder: Path, guard: Guard, pools: Collection[str]) -> None:
        self.faults = Folder(folder)
        self.faults.make()
        self.deaths: list[tuple[float, str]] = []
        self._folder = folder
        self._guard = guard
        self._pools = pools
        self._postgres = Postgres(folder, guard, durable=True)
        self._valkey = Valkey(folder, guard, durable=True)
        self._members: list[_Member] = [self._valkey, self._postgres]
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._environ = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DATABASE_URL": self._postgres.url,
            "REDIS_URL": self._valkey.url,
            "VAR_DIR": str(folder),
            "HOST": HOST,
            "REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S),
            "KEY_CACHE_S": "0",  # each request asks the database whose key it has
            FOLDER_VARIABLE: str(folder),
        }
        self.urls: tuple[str, ...] = ()

    def start(self, attachments: int) -> list[Attachment]:
        """Start everything, and make so many attachments."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda member: member.start(), self._members))
        (self.faults.pids / "postgres").symlink_to(self._folder / "postgres" / "postmaster.pid")
        (self.faults.pids / "valkey").symlink_to(self._folder / "valkey" / "valkey.pid")
        self._start_processes()  # while the database is filled: they need it for requests only
        made = self._prepare(attachments)
        for member in self._members:
            thread = threading.Thread(target=self._keep_running, args=(member,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return made

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for member in reversed(self._members):
            member.stop()

    def has_lost(self, name: str, *, since: float) -> bool:
        """Whether the process was found dead since then, in unix seconds."""
        return any(at >= since and dead == name for at, dead in self.deaths)

    def serve_from(self, pool: str) -> None:
        """Have all requests computed by the workers of `pool`."""
        self.query("UPDATE billing_plan SET worker_pool = %s WHERE slug = %s", pool, PLAN)

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query, once PostgreSQL is back."""

        def ask() -> list[tuple[Any, ...]]:
            with psycopg.connect(self._postgres.url, autocommit=True) as connection:
                cursor = connection.execute(sql.encode(), parameters)
                return cursor.fetchall() if cursor.description else []

        return self._when_back(ask, psycopg.OperationalError)

    def ask_valkey(self, ask: Callable[[Redis], T]) -> T:
        """What `ask` returns, once Valkey is back."""

        def ask_now() -> T:
            with Redis.from_url(self._valkey.url) as redis:
                return ask(redis)

        return self._when_back(ask_now, RedisError)

    def log_sizes(self) -> dict[str, int]:
        return {
            member.name: member.log.stat().st_size if member.log.exists() else 0
            for member in self._members
        }

    def read_logs(self, since: Mapping[str, int], name: str = "") -> str:
        """What was logged since `since`, by the processes whose names begin with `name`."""
        parts = []
        for member in self._members:
            if member.name.startswith(name) and member.log.exists():
                with member.log.open("rb") as log:
                    log.seek(since.get(member.name, 0))
                    parts.append(f"--- {member.name}\n{log.read().decode(errors='replace')}")
        return "\n".join(parts)

    def last_lines(self, since: Mapping[str, int]) -> str:
        logs = self.read_logs(since).split("--- ")
        return "--- ".join(log[-LAST_CHARACTERS:] for log in logs)

    def _prepare(self, attachments: int) -> list[Attachment]:
        printed = subprocess.run(
            [
                sys.executable,
                "-c",
                PREPARE,
                PLAN,
                *(f"app-{number}" for number in range(attachments)),
            ],
            cwd=ROOT,
            env=self._environ,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        return [Attachment(*line.split()) for line in printed.splitlines()]

    def _start_processes(self) -> None:
        web = read_procfile(ROOT / "Procfile")["web"]
        web = web.replace("config.asgi:application", "tests.chaos.web:application")
        ports = _free_ports(len(WEBS))
        self.urls = tuple(f"http://{HOST}:{port}" for port in ports)
        for name, port in zip(WEBS, ports, strict=True):
            # Without it granian ends with its process, and is what is started anew.
            command = web.replace("--respawn-failed-workers", "")
            self._add(name, command, {"PORT": str(port), "WEB_CONCURRENCY": "1"})
        for pool in self._pools:
            for name in WORKERS[pool]:
                kind = name.partition("-")[0]
                command = f"{COMMANDS[kind]} --pool {pool}" if kind == "engine" else COMMANDS[kind]
                self._add(name, command, {})

    def _add(self, name: str, command: str, variables: Mapping[str, str]) -> None:
        environ = {**self._environ, **variables}
        self._members.append(_Command(name, command, environ, self._folder, self._guard))
        self._members[-1].start()

    def _keep_running(self, member: _Member) -> None:
        while not self._stopping.wait(POLL_S):
            if member.has_ended:
                self.deaths.append((time.time(), member.name))
                try:
                    member.start()
                except Exception as error:  # noqa: BLE001 - a supervisor tries again
                    print(f"{member.name} does not start: {error!r}", file=sys.stderr)  # noqa: T201

    def _when_back(self, ask: Callable[[], T], lost: type[Exception]) -> T:
        deadline = time.monotonic() + HEAL_TIMEOUT_S
        while True:
            try:
                return ask()
            except lost:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


@contextmanager
def running_deployment(
    pools: Collection[str], *, attachments: int
) -> Iterator[tuple[Deployment, list[Attachment]]]:
    """A deployment with two workers in each of `pools`, and so many attachments of it."""
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="annex-chaos-"))
        guard = Guard()
        deployment = Deployment(Path(name).resolve(), guard, pools)
        stack.callback(guard.release)
        stack.callback(deployment.stop)
        yield deployment, deployment.start(attachments)


def _free_ports(count: int) -> list[int]:
    free = []
    for port in PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            free.append(port)
        if len(free) == count:
            return free
    raise OSError(f"fewer than {count} of the ports {PORTS} are free")
