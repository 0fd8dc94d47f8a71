"""A running Annex to be measured: durable servers, and the processes of the Procfile.

The servers and the keys stay while web and `gpu` processes come and go. Everything is stopped by
its pid at the end of a block, and by a guard if this process is killed.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # publishes no type information

from bench.processes import ROOT, running_process
from bench.workload import MODEL_ID
from config.embedded_servers import free_port, running_servers
from config.processes import read_procfile

HOST = "127.0.0.1"
START_TIMEOUT_S = 90.0
LAST_CHARACTERS = 3_000
POLL_S = 0.02
# Limits that refuse nothing are a plan's row, not switched off code.
PREPARE = """
import sys, uuid
import django
django.setup()
from django.core.management import call_command
from django.utils import timezone
call_command("migrate", verbosity=0)
call_command("sync_catalogue", verbosity=0)
from addon.provider.provisioning import AttachmentRequest, ProvisionRequest, provision
from billing.models import Plan
Plan.objects.update(
    requests_per_minute=10**8, tokens_per_minute=10**9, concurrent_requests=None
)
for name in sys.argv[1:]:
    attachment = AttachmentRequest(id=uuid.uuid4(), name="EMBEDDING", app_name=name)
    request = ProvisionRequest(
        uuid=uuid.uuid4(), name=f"inference-{name}-1", plan_slug="standard",
        region="amazon-web-services::us-east-1", options={}, callback_url="",
        attachment=attachment,
    )
    print(provision(request, timezone.now()).config["INFERENCE_KEY"])
"""


class NotReady(Exception):
    """Annex does not serve; the message has the last lines of the logs."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Web and `gpu` processes that serve at `port`."""

    port: int
    pids: dict[str, list[int]]
    first_answer_s: float  # from the start of the `gpu` process to the first embeddings

    def memory_mb(self) -> dict[str, list[float]]:
        """The memory of each process with all that descend from it, by type; memory that several
        processes share counts for each in part."""
        return {name: [_memory_mb(pid) for pid in pids] for name, pids in self.pids.items()}


class Annex:
    """Servers that run, a database that is filled, and the keys of two attachments."""

    def __init__(
        self, folder: Path, environ: dict[str, str], servers: dict[str, list[int]]
    ) -> None:
        self._folder = folder
        self._environ = environ
        self._servers = servers
        self._log_count = 0
        self.keys: tuple[str, ...] = ()

    def prepare(self, *names: str) -> None:
        """Fill the database; one attachment for each of `names`."""
        printed = subprocess.run(
            [sys.executable, "-c", PREPARE, *names],
            cwd=ROOT,
            env=self._environ,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        self.keys = tuple(printed.split())

    @contextmanager
    def serving(
        self,
        *,
        web_processes: int = 1,
        workers: int = 1,
        replaced: Sequence[tuple[str, str]] = (),
        variables: Mapping[str, str] | None = None,
    ) -> Iterator[Serving]:
        """Web processes and workers until the end of the block, ready at its beginning.

        `replaced`: words of the Procfile's commands that others stand for, such as a module that
        measures; `variables`: what its environment gets on top. The processor's cores are divided
        among several workers. Raises NotReady.
        """
        port = free_port()
        environ = {
            **self._environ,
            "HOST": HOST,
            "PORT": str(port),
            "WEB_CONCURRENCY": str(web_processes),
            **(variables or {}),
        }
        if workers > 1:
            environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
        commands = read_procfile(ROOT / "Procfile")
        for old, new in replaced:
            commands = {name: command.replace(old, new) for name, command in commands.items()}
        with ExitStack() as stack:
            logs: list[Path] = []

            processes: dict[str, list[subprocess.Popen[bytes]]] = {"web": [], "gpu": []}

            def start(name: str) -> None:
                logs.append(self._folder / f"{len(logs)}-{name}.log")
                running = running_process(commands[name], environ, logs[-1])
                processes[name].append(stack.enter_context(running))

            def wait_until(condition: Callable[[], bool]) -> None:
                deadline = time.monotonic() + START_TIMEOUT_S
                while not condition():
                    started = chain.from_iterable(processes.values())
                    has_ended = any(process.poll() is not None for process in started)
                    if has_ended or time.monotonic() > deadline:
                        raise NotReady("\n".join(map(_last_lines, logs)))
                    time.sleep(POLL_S)

            start("web")
            wait_until(lambda: self._workers_known(port) is not None)
            began = time.perf_counter()
            for _ in range(workers):
                start("gpu")
            wait_until(lambda: self._answers(port))
            first_answer_s = time.perf_counter() - began
            wait_until(lambda: self._workers_known(port) == workers)
            pids = {name: [process.pid for process in group] for name, group in processes.items()}
            yield Serving(port=port, pids=pids | self._servers, first_answer_s=first_answer_s)

    def _workers_known(self, port: int) -> int | None:
        body = _fetch(f"http://{HOST}:{port}/healthz")
        return None if body is None else msgspec.json.decode(body)["models"][MODEL_ID]["workers"]

    def _answers(self, port: int) -> bool:
        body = msgspec.json.encode({"model": MODEL_ID, "input": "Is anybody there?"})
        return _fetch(f"http://{HOST}:{port}/v1/embeddings", body, self.keys[0]) is not None


@contextmanager
def running_annex() -> Iterator[Annex]:
    """Both servers, durable, in a temporary folder; and two attachments without tight limits."""
    with tempfile.TemporaryDirectory(prefix="annex-bench-") as name:
        folder = Path(name)
        before = set(psutil.Process().children())
        with running_servers(folder, durable=True) as addresses:
            started = set(psutil.Process().children()) - before
            servers = {
                server: [child.pid for child in started if child.name().startswith(server)]
                for server in ("postgres", "valkey")
            }
            environ = {
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "SECRET_KEY": secrets.token_urlsafe(50),
                "ENCRYPTION_KEYS": secrets.token_urlsafe(32),
                "PROVIDER_PASSWORD": secrets.token_urlsafe(),
                "DATABASE_URL": addresses.database_url,
                "REDIS_URL": addresses.redis_url,
                "VAR_DIR": str(folder),
            }
            annex = Annex(folder, environ, servers)
            annex.prepare("shop", "search")
            yield annex


def _fetch(url: str, body: bytes | None = None, key: str = "") -> bytes | None:
    """The body of a 200, None for anything else."""
    request = urllib.request.Request(url, body, {"Authorization": f"Bearer {key}"})  # noqa: S310
    with suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        content: bytes = answer.read()
        return content
    return None


def _memory_mb(pid: int) -> float:
    process = psutil.Process(pid)
    total = 0
    for member in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            memory = member.memory_full_info()
            total += getattr(memory, "pss", memory.rss)  # proportional where the system tells
    return total / 1e6


def _last_lines(log: Path) -> str:
    return f"--- {log.name}\n{log.read_text(errors='replace')[-LAST_CHARACTERS:]}"
