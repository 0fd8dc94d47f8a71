"""What a request costs outside the engine: `.venv/bin/python -m bench.request_path [TREE …]`.

Starts what `make up` starts, durable, but for a worker that answers at once with constant vectors,
and reports requests a second and the processor time of a request by process. With other TREEs
(checkouts that have these files of bench/ too) each is measured in turn with the others, so that
they can be compared. `--without` also measures what authentication, limits and metering cost.
"""

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # publishes no type information

from bench.corpus import real_paragraphs
from bench.load import LoadResult, http_post, run_load
from bench.workload import MODEL_ID
from config.embedded_servers import free_port, running_servers

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
REST_S = 0.2
CLIENT = "client"
PREPARE = """
import json, uuid
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
attachment = AttachmentRequest(id=uuid.uuid4(), name="EMBEDDING", app_name="shop")
provisioned = provision(
    ProvisionRequest(
        uuid=uuid.uuid4(), name="inference-calm-1", plan_slug="standard",
        region="amazon-web-services::us-east-1", options={}, callback_url="",
        attachment=attachment,
    ),
    timezone.now(),
)
print(provisioned.config["INFERENCE_KEY"])
"""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How clients ask: texts a request, connections at once, and how long they do."""

    name: str
    texts: int
    connections: int
    seconds: float


SHAPES = (
    Shape(name="1 text x 16", texts=1, connections=16, seconds=4.0),
    Shape(name="32 texts x 4", texts=32, connections=4, seconds=3.0),
    Shape(name="1 text x 1", texts=1, connections=1, seconds=2.0),
)
PARTS = ("authentication", "limits", "metering")


class Stack:
    """One running Annex, its worker an instant one."""

    def __init__(self, tree: Path, port: int, key: str, processes: dict[str, list[int]]) -> None:
        self.tree = tree
        self._port = port
        self._key = key
        self._processes = processes

    def measure(self, shape: Shape) -> "Measured":
        requests = self._requests(shape)
        run_load(HOST, self._port, requests, shape.connections, 0.5)
        time.sleep(REST_S)
        before = self._cpu_s()
        result = run_load(HOST, self._port, requests, shape.connections, shape.seconds)
        after = self._cpu_s()
        used_s = {name: after[name] - before[name] for name in before}
        used_s[CLIENT] = result.client_cpu_s
        cpu_ms = {name: s * 1000 / result.answered for name, s in used_s.items()}
        return Measured(result=result, cpu_ms=cpu_ms)

    def _requests(self, shape: Shape) -> list[bytes]:
        texts = real_paragraphs(500 if shape.texts == 1 else 1_000)
        groups = [texts[start : start + shape.texts] for start in range(0, len(texts), shape.texts)]
        bodies = [msgspec.json.encode({"model": MODEL_ID, "input": group}) for group in groups]
        return [http_post("/v1/embeddings", body, host=HOST, key=self._key) for body in bodies]

    def _cpu_s(self) -> dict[str, float]:
        return {name: sum(map(_cpu_s, pids)) for name, pids in self._processes.items()}


@dataclass(frozen=True, kw_only=True)
class Measured:
    result: LoadResult
    cpu_ms: dict[str, float]  # a request, by process


def _cpu_s(pid: int) -> float:
    """User and system time of a process and all that descend from it."""
    process = psutil.Process(pid)
    total = 0.0
    for member in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = member.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def running_stack(tree: Path, without: str = "") -> Iterator[Stack]:
    """Start it all, in a temporary folder; stop it at the end of the block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="annex-bench-")))
        known = _children()
        addresses = stack.enter_context(running_servers(folder, durable=True))
        servers = {
            name: [p.pid for p in _children() - known if p.name().startswith(name)]
            for name in ("postgres", "valkey")
        }
        port = free_port()
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SECRET_KEY": secrets.token_urlsafe(50),
            "ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
            "PROVIDER_PASSWORD": secrets.token_urlsafe(),
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
            "VAR_DIR": str(folder),
            "BENCH_WITHOUT": without,
        }
        key = subprocess.run(
            [sys.executable, "-c", PREPARE],
            cwd=tree,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.strip()
        commands = {
            "web": _web_command(tree, port, "bench.without" if without else "config.asgi"),
            "worker": [sys.executable, "-m", "bench.instant_worker"],
        }
        pids = {}
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(
                    command, cwd=tree, env=environment, stdout=log, stderr=log
                )
            stack.callback(_stop, process)
            pids[name] = [process.pid]
        try:
            _wait_until_served(port)
        except TimeoutError:
            for name in commands:
                print((folder / f"{name}.log").read_text()[-3000:], file=sys.stderr)
            raise
        yield Stack(tree, port, key, {**pids, **servers})


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def _web_command(tree: Path, port: int, module: str) -> list[str]:
    """As in the Procfile."""
    (line,) = [
        line for line in (tree / "Procfile").read_text().splitlines() if line.startswith("web: ")
    ]
    command = line.removeprefix("web: ").split()
    replaced = {"${HOST:-0.0.0.0}": HOST, "${PORT:-5000}": str(port), "${WEB_CONCURRENCY:-1}": "1"}
    replaced["config.asgi:application"] = f"{module}:application"
    return [
        str(Path(sys.executable).parent / command[0]),
        *(replaced.get(word, word) for word in command[1:]),
    ]


def _wait_until_served(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(OSError):
            url = f"http://{HOST}:{port}/healthz"
            with urllib.request.urlopen(url, timeout=5) as answer:
                if msgspec.json.decode(answer.read())["models"][MODEL_ID]["workers"]:
                    return
        time.sleep(0.1)
    raise TimeoutError("the web process does not answer, or knows no worker")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _row(label: str, measured: Measured) -> str:
    result, cpu_ms = measured.result, measured.cpu_ms
    cells = [
        label,
        f"{result.requests_per_s:,.0f}",
        *(f"{cpu_ms[name]:.2f}" for name in ("web", "postgres", "valkey", "worker", CLIENT)),
        f"{sum(cpu_ms.values()):.2f}",
        f"{result.latency_ms(50):.2f}",
        f"{result.latency_ms(99):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| | requests/s | web | PostgreSQL | Valkey | worker | client | all, CPU-ms | p50 ms | p99 ms |"
    "\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="*", type=Path, default=[Path.cwd()])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--without", action="store_true")
    options = parser.parse_args()
    configurations = [
        (tree.resolve(), without)
        for tree in options.trees
        for without in (("", *PARTS, ",".join(PARTS)) if options.without else ("",))
    ]
    with ExitStack() as stack:
        stacks = [
            (f"{tree.name}, without {without}" if without else tree.name, running)
            for tree, without in configurations
            for running in (stack.enter_context(running_stack(tree, without)),)
        ]
        for shape in SHAPES:
            print(f"\n{shape.name}\n\n{HEADER}", flush=True)
            for _ in range(options.rounds):
                for label, running in stacks:
                    print(_row(label, running.measure(shape)), flush=True)


if __name__ == "__main__":
    main()
