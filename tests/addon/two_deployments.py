"""Two Annex deployments, each with a database and processes of its own: one is the platform, the
other the provider. They meet over HTTP only, and a process of either may be killed; it is started
anew."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
from django.db import connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb
from redis import Redis

from config.embedded_servers import free_port
from config.guard import Guard

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "HRKU-01234567-89ab-4def-8123-456789abcdef"
VALKEY_DATABASES = {"platform": 14, "provider": 15}  # of this process's Valkey; its own is 0
WAIT_S = 40.0
FIRST_PLAN = "heroku-inference:standard"
OTHER_PLAN = "heroku-inference:cohere-embed-multilingual"
BACKGROUND = ("provision", "plan_change", "deprovision")

# What is not at rest, on either side: on it somebody still works, or is to.
UNFINISHED = {
    "platform": """
        SELECT 'add-on ' || name || ' is ' || state FROM platform_addon
        WHERE state NOT IN ('provisioned', 'deprovisioned')
           OR (state = 'provisioned' AND next_attempt_at IS NOT NULL)
        UNION ALL SELECT 'attachment ' || name || ' is ' || state FROM platform_attachment
        WHERE state <> 'attached' OR next_attempt_at IS NOT NULL
        UNION ALL SELECT 'subscription of ' || resource_id FROM billing_subscription
        WHERE end_at IS NULL AND resource_id NOT IN (
            SELECT id FROM platform_addon WHERE state = 'provisioned')
    """,
    "provider": """
        SELECT 'resource ' || id || ' has ' || pending FROM provider_resource
        WHERE pending <> '' OR next_attempt_at IS NOT NULL OR leased_until IS NOT NULL
        UNION ALL SELECT 'callback of ' || resource_id FROM provider_callback
        WHERE ended_at IS NULL
    """,
}


@dataclass(frozen=True, kw_only=True)
class Deployment:
    url: str
    database: str
    crash_at: Path
    worker_pid: Path
    environment: dict[str, str]

    def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.request(method, self.url + path, json=body, headers=headers, timeout=30)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database) as database:
            return database.execute(query).fetchall()

    def set_async_operations(self, operations: Sequence[str]) -> None:
        with psycopg.connect(self.database) as database:
            wanted = Jsonb(list(operations))
            database.execute("UPDATE billing_plan SET async_operations = %s", [wanted])


@dataclass(frozen=True, kw_only=True)
class Both:
    platform: Deployment
    provider: Deployment

    def check_agreement(self) -> str:
        """What they do not agree on, or have not ended; nothing when all is well."""
        sides = {"platform": self.platform, "provider": self.provider}
        unfinished = [row[0] for name, side in sides.items() for row in side.rows(UNFINISHED[name])]
        live = "SELECT id, plan_slug FROM provider_resource WHERE deprovisioned_at IS NULL"
        resources = {str(row[0]): row[1] for row in self.provider.rows(live)}
        addons = self.platform.call("GET", "/addons").json()
        plans = {row["id"]: row["plan"]["name"].split(":")[1] for row in addons}
        if unfinished or plans != resources:
            return f"{unfinished}; {[(row['id'], row['state']) for row in addons]} and {resources}"
        keys = [value for name, value in self.config().items() if name.endswith("_KEY")]
        works = [self.accepts(key) for key in keys]
        live_keys = "SELECT count(*) FROM provider_credential WHERE revoked_at IS NULL"
        count = self.provider.rows(live_keys)[0][0]
        if not all(works) or not len(keys) == count == len(addons):
            return f"{len(addons)} add-ons, {count} keys, {works}"
        return ""

    def config(self) -> dict[str, str]:
        config: dict[str, str] = self.platform.call("GET", "/apps/shop/config-vars").json()
        return config

    def accepts(self, key: str) -> bool:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(f"{self.provider.url}/v1/models", headers=headers).status_code == 200

    def order(self, name: str, alias: str) -> httpx.Response:
        body = {"plan": FIRST_PLAN, "name": name, "attachment": {"name": alias}}
        return self.platform.call("POST", "/apps/shop/addons", body)

    def state(self, name: str) -> str:
        answer = self.platform.call("GET", f"/apps/shop/addons/{name}")
        return str(answer.json().get("state", answer.status_code))

    def releases(self) -> list[str]:
        rows = self.platform.call("GET", "/apps/shop/releases").json()
        return [row["description"] for row in rows]

    def wait_for_agreement(self, within_s: float = WAIT_S) -> None:
        wrong = "not asked yet"

        def holds() -> bool:
            nonlocal wrong
            with suppress(httpx.HTTPError):
                wrong = self.check_agreement()
            return not wrong

        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, wrong
            time.sleep(0.1)


def wait_for(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def is_up(deployment: Deployment) -> bool:
    """Whether its web process answers, and its worker works."""
    with suppress(FileNotFoundError, ValueError, ProcessLookupError):
        os.kill(int(deployment.worker_pid.read_text()), 0)
        return answers(deployment)
    return False


def answers(deployment: Deployment) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{deployment.url}/regions", timeout=5).status_code < 500
    return False


@contextmanager
def running_both(folder: Path, blocker: Any, haste: float) -> Iterator[Both]:
    """Both, with an app `shop` and plans that work in the background. HASTE: see crashes.py."""
    urls = {name: f"http://127.0.0.1:{free_port()}" for name in VALKEY_DATABASES}
    with ExitStack() as stack:
        databases = [stack.enter_context(_copied_database(name, blocker)) for name in urls]
        made = {
            name: _deployment(name, urls, database, folder, haste)
            for (name, database) in zip(urls, databases, strict=True)
        }
        for each in made.values():
            with Redis.from_url(each.environment["REDIS_URL"]) as redis:
                redis.flushdb()
            stack.enter_context(_running(_web_command(each), each))
        for each in made.values():
            wait_for(lambda each=each: answers(each), "it did not start")  # type: ignore[misc]
            command = [sys.executable, "-m", "tests.addon.annex_worker"]
            stack.enter_context(_running(command, each))
        pair = Both(**made)
        wait_for(lambda: all(map(is_up, made.values())), "a worker did not start")
        pair.provider.set_async_operations(BACKGROUND)
        pair.platform.call("POST", "/apps", {"name": "shop"})
        yield pair


@contextmanager
def _copied_database(name: str, blocker: Any) -> Iterator[str]:
    """A copy of the tests' own, which has its tables and nothing in them."""
    with blocker.unblock():
        template = connection.settings_dict["NAME"]
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
    known: dict[str, Any] = conninfo_to_dict(os.environ["DATABASE_URL"])
    server = make_conninfo(**{**known, "dbname": "postgres", "options": ""})
    copy = f"{template}_{name}"
    with psycopg.connect(server, autocommit=True) as maintenance:
        maintenance.execute(f'DROP DATABASE IF EXISTS "{copy}" WITH (FORCE)')
        maintenance.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{template}"')
        try:
            yield make_conninfo(**{**known, "dbname": copy, "options": ""})
        finally:
            maintenance.execute(f'DROP DATABASE "{copy}" WITH (FORCE)')


def _deployment(
    name: str, urls: dict[str, str], database: str, folder: Path, haste: float
) -> Deployment:
    crash_at, worker_pid = folder / name, folder / f"{name}.worker"
    copy = str(conninfo_to_dict(database)["dbname"])
    redis_url = urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{VALKEY_DATABASES[name]}")
    environment = {
        **os.environ,
        "DATABASE_URL": urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{copy}")),
        "REDIS_URL": urlunsplit(redis_url),
        "PUBLIC_URL": urls[name],
        "PROVIDER_URL": urls["provider"],
        "PLATFORM_URLS": urls["platform"],
        "CRASH_AT": str(crash_at),
        "WORKER_PID": str(worker_pid),
        "HASTE": str(haste),
        "TOKEN": TOKEN,
        "PLATFORM_REQUESTS_PER_HOUR": "1000000",
        "KEY_CACHE_S": "0",  # each request asks the database whose key it has
        "LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    return Deployment(
        url=urls[name],
        database=database,
        crash_at=crash_at,
        worker_pid=worker_pid,
        environment=environment,
    )


def _web_command(deployment: Deployment) -> list[str]:
    """As in the Procfile; granian ends with its worker process, and is then started anew."""
    granian = Path(sys.executable).with_name("granian")
    return [
        str(granian), "--interface", "asgi", "--host", "127.0.0.1", "--workers", "1",
        "--http", "1", "--no-ws", "--loop", "uvloop", "--log-level", "critical",
        "--port", deployment.url.rpartition(":")[2], "tests.addon.annex_web:application",
    ]  # fmt: skip


@contextmanager
def _running(command: Sequence[str], deployment: Deployment) -> Iterator[None]:
    """Started anew as soon as it has ended, as a supervisor would."""
    stopping, guard = threading.Event(), Guard()

    def supervise() -> None:
        while not stopping.is_set():
            process = subprocess.Popen(
                command, cwd=ROOT, env=deployment.environment, start_new_session=True
            )
            guard.watch_group(process.pid)
            while process.poll() is None and not stopping.wait(0.05):
                pass
            process.terminate()
            process.wait(20)

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        yield
    finally:
        stopping.set()
        supervisor.join()
        guard.release()
