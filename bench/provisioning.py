"""Add-ons: what ordering one costs, over HTTP, however many there are.

The web process of the Procfile is the platform and, over HTTP to itself, the provider, on the
durable PostgreSQL that Annex brings along. The database is filled by copies of one ordered add-on,
each with an account, an app and all that hangs on them.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from queue import SimpleQueue
from statistics import quantiles

import httpx
import msgspec
import psutil  # type: ignore[import-untyped]  # publishes no type information

from bench.processes import ROOT, running_process
from config.embedded_servers import free_port, running_servers
from config.processes import read_procfile

AT_ONCE = 4
ROUNDS = 3
START_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 60.0
WARM_UP_S = 1.5
PREPARE = "import django; django.setup(); from bench.provisioning_rows import prepare; prepare()"
FILL = "import django; django.setup(); from bench.provisioning_rows import fill; fill()"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An app, and the token of the account that owns it."""

    app: str
    token: str


class Provisioned(msgspec.Struct, frozen=True, kw_only=True):
    """Orders of add-ons, AT_ONCE at a time, into a database that has `addons` already."""

    addons: int
    per_s: float
    p50_ms: float
    p99_ms: float
    web_cpu_ms: float
    postgres_cpu_ms: float
    rounds_cpu_ms: list[float] = []

    @property
    def cpu_ms(self) -> float:
        return self.web_cpu_ms + self.postgres_cpu_ms


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of processor so far."""

    web_s: float
    postgres_s: float


def measure_provisioning(*, counts: Sequence[int], seconds: float) -> list[Provisioned]:
    """One for each of `counts`, add-ons that are there before; they grow.

    Each is the round of ROUNDS whose processor time is the median.
    """
    with _running_annex() as (url, environ, web, postgres):
        measured = []
        for count in counts:
            orders = _fill(environ, count)
            _order(url, orders, WARM_UP_S)
            rounds = []
            for _ in range(ROUNDS):
                before, began = _costs(web, postgres), time.perf_counter()
                took_s = _order(url, orders, seconds / ROUNDS)
                elapsed_s = time.perf_counter() - began
                rounds.append(_round(count, took_s, elapsed_s, before, _costs(web, postgres)))
            middle = sorted(rounds, key=lambda one: one.cpu_ms)[ROUNDS // 2]
            rounds_cpu_ms = [one.cpu_ms for one in rounds]
            measured.append(msgspec.structs.replace(middle, rounds_cpu_ms=rounds_cpu_ms))
    return measured


def _round(
    addons: int, took_s: Sequence[float], elapsed_s: float, before: Costs, after: Costs
) -> Provisioned:
    percentiles = quantiles(took_s, n=100)
    return Provisioned(
        addons=addons,
        per_s=len(took_s) / elapsed_s,
        p50_ms=percentiles[49] * 1000,
        p99_ms=percentiles[98] * 1000,
        web_cpu_ms=(after.web_s - before.web_s) * 1000 / len(took_s),
        postgres_cpu_ms=(after.postgres_s - before.postgres_s) * 1000 / len(took_s),
    )


@contextmanager
def _running_annex() -> Iterator[tuple[str, dict[str, str], psutil.Process, psutil.Process]]:
    """Its address, the environment of its programs, its web process and PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="annex-bench-") as name:
        folder = Path(name)
        before = set(psutil.Process().children())
        with running_servers(folder, durable=True) as addresses:
            started = set(psutil.Process().children()) - before
            postgres = next(child for child in started if child.name().startswith("postgres"))
            port = free_port()
            url = f"http://127.0.0.1:{port}"
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
                "HOST": "127.0.0.1",
                "PORT": str(port),
                "PUBLIC_URL": url,
                "PLATFORM_REQUESTS_PER_HOUR": str(10**9),
            }
            _run(environ, PREPARE)
            command = read_procfile(ROOT / "Procfile")["web"]
            with running_process(command, environ, folder / "web.log") as web:
                deadline = time.monotonic() + START_TIMEOUT_S
                while not _answers(url):
                    if web.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError((folder / "web.log").read_text())
                    time.sleep(0.05)
                yield url, environ, psutil.Process(web.pid), postgres


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/addon-services", timeout=10):  # noqa: S310
        return True
    return False


def _fill(environ: dict[str, str], count: int) -> list[Order]:
    """New apps to order for, beside `count` add-ons."""
    return msgspec.json.decode(_run(environ, FILL, str(count)), type=list[Order])


def _run(environ: dict[str, str], program: str, *arguments: str) -> bytes:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE).stdout


def _order(url: str, orders: Sequence[Order], seconds: float) -> list[float]:
    """How long each order took, in seconds; the accounts take turns. Raises HTTPStatusError."""
    turns: SimpleQueue[Order] = SimpleQueue()
    for order, _ in zip(cycle(orders), range(100_000), strict=False):
        turns.put(order)
    until = time.perf_counter() + seconds

    def order_until(client: httpx.Client) -> list[float]:
        took_s = []
        while (began := time.perf_counter()) < until:
            order = turns.get_nowait()
            answer = client.post(
                f"{url}/apps/{order.app}/addons",
                json={"plan": "heroku-inference:standard"},
                headers={"Authorization": f"Bearer {order.token}"},
            )
            took_s.append(time.perf_counter() - began)
            if answer.status_code != 201 or answer.json()["state"] != "provisioned":
                raise RuntimeError(f"{answer.status_code}: {answer.text}")
        return took_s

    limits = httpx.Limits(max_keepalive_connections=AT_ONCE)
    with (
        httpx.Client(timeout=REQUEST_TIMEOUT_S, limits=limits, trust_env=False) as client,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        return [took for part in threads.map(order_until, [client] * AT_ONCE) for took in part]


def _costs(web: psutil.Process, postgres: psutil.Process) -> Costs:
    return Costs(web_s=_cpu_s(web), postgres_s=_cpu_s(postgres))


def _cpu_s(parent: psutil.Process) -> float:
    """Of the process, those below it, and those that were and have ended."""
    times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
    ended = times[0].children_user + times[0].children_system
    return float(ended + sum(each.user + each.system for each in times))
