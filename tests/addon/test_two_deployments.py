"""Two Annex deployments, each with a database and processes of its own: one is the platform, the
other the provider. They meet over HTTP only, and a process of either may be killed."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest
from django.db import connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from config.embedded_servers import free_port
from config.guard import Guard

pytestmark = pytest.mark.django_db  # whose tables are copied

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "HRKU-01234567-89ab-4def-8123-456789abcdef"
WAIT_S = 25.0
OTHER_PLAN = "heroku-inference:cohere-embed-multilingual"


@dataclass(frozen=True, kw_only=True)
class Deployment:
    url: str
    database: str
    crash_at: Path
    environment: dict[str, str]

    def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.request(method, self.url + path, json=body, headers=headers, timeout=30)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database) as database:
            return database.execute(query).fetchall()


@dataclass(frozen=True, kw_only=True)
class Both:
    platform: Deployment
    provider: Deployment

    def check_agreement(self) -> str:
        """What they do not agree on; nothing when all is well."""
        live = "SELECT id, plan_slug FROM provider_resource WHERE deprovisioned_at IS NULL"
        resources = {str(row[0]): row[1] for row in self.provider.rows(live)}
        addons = self.platform.call("GET", "/addons").json()
        plans = {row["id"]: row["plan"]["name"].split(":")[1] for row in addons}
        if {row["state"] for row in addons} - {"provisioned"} or plans != resources:
            return f"{[(row['id'], row['state']) for row in addons]} and {resources}"
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


@pytest.fixture(scope="module")
def both(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("deployments")
    urls = {name: f"http://127.0.0.1:{free_port()}" for name in ("platform", "provider")}
    with ExitStack() as stack:
        databases = [stack.enter_context(copied_database(name, django_db_blocker)) for name in urls]
        made = {
            name: deployment(name, urls, database, folder)
            for (name, database) in zip(urls, databases, strict=True)
        }
        for each in made.values():
            stack.enter_context(running_web(each))
        for each in made.values():
            wait_for(lambda each=each: is_up(each), "it did not start")  # type: ignore[misc]
        pair = Both(**made)
        pair.platform.call("POST", "/apps", {"name": "shop"})
        yield pair


@contextmanager
def copied_database(name: str, blocker: Any) -> Iterator[str]:
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


def deployment(name: str, urls: dict[str, str], database: str, folder: Path) -> Deployment:
    crash_at = folder / name
    copy = conninfo_to_dict(database)["dbname"]
    environment = {
        **os.environ,
        "DATABASE_URL": with_database(os.environ["DATABASE_URL"], str(copy)),
        "PUBLIC_URL": urls[name],
        "PROVIDER_URL": urls["provider"],
        "PLATFORM_URLS": urls["platform"],
        "CRASH_AT": str(crash_at),
        "TOKEN": TOKEN,
        "LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    return Deployment(url=urls[name], database=database, crash_at=crash_at, environment=environment)


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def running_web(deployment: Deployment) -> Iterator[None]:
    """As in the Procfile; granian ends with its worker process, and is then started anew."""
    words = [
        "granian", "--interface", "asgi", "--host", "127.0.0.1", "--workers", "1", "--http", "1",
        "--no-ws", "--loop", "uvloop", "--log-level", "critical",
    ]  # fmt: skip
    port = deployment.url.rpartition(":")[2]
    command = [
        str(Path(sys.executable).with_name(words[0])), *words[1:], "--port", port,
        "tests.addon.annex_web:application",
    ]  # fmt: skip
    stopping, guard = threading.Event(), Guard()

    def supervise() -> None:
        while not stopping.is_set():
            web = subprocess.Popen(
                command, cwd=ROOT, env=deployment.environment, start_new_session=True
            )
            guard.watch_group(web.pid)
            while web.poll() is None and not stopping.wait(0.05):
                pass
            web.terminate()
            web.wait(20)

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        yield
    finally:
        stopping.set()
        supervisor.join()
        guard.release()


def is_up(deployment: Deployment) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{deployment.url}/regions", timeout=5).status_code < 500
    return False


def wait_for(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def wait_for_agreement(both: Both) -> None:
    wrong = "not asked yet"

    def holds() -> bool:
        nonlocal wrong
        with suppress(httpx.HTTPError):
            wrong = both.check_agreement()
        return not wrong

    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, wrong
        time.sleep(0.1)


def state(both: Both, name: str) -> str:
    answer = both.platform.call("GET", f"/apps/shop/addons/{name}")
    return str(answer.json().get("state", answer.status_code))


def order(both: Both, name: str, alias: str) -> httpx.Response:
    body = {"plan": "heroku-inference:standard", "name": name, "attachment": {"name": alias}}
    return both.platform.call("POST", "/apps/shop/addons", body)


def test_the_whole_story(both: Both) -> None:
    ordered = order(both, "my-embedder", "EMBEDDING")
    assert ordered.status_code == 201, ordered.text
    assert ordered.json()["provision_message"].endswith("in the background")
    wait_for(lambda: state(both, "my-embedder") == "provisioned", "it was not provisioned")
    config = both.config()
    assert config["EMBEDDING_MODEL_ID"] == "all-minilm-l6-v2"
    assert both.accepts(config["EMBEDDING_KEY"])
    releases = [
        row["description"] for row in both.platform.call("GET", "/apps/shop/releases").json()
    ]
    assert releases == ["Initial release", "Attach EMBEDDING (my-embedder)"]
    path = "/apps/shop/addons/my-embedder"
    assert both.platform.call("PATCH", path, {"plan": OTHER_PLAN}).status_code == 200
    wait_for(
        lambda: both.platform.call("GET", path).json()["plan"]["name"] == OTHER_PLAN,
        "its plan was not changed",
    )
    assert both.config()["EMBEDDING_MODEL_ID"] == "cohere-embed-multilingual"
    assert both.config()["EMBEDDING_KEY"] == config["EMBEDDING_KEY"]
    assert both.platform.call("DELETE", path).json()["state"] == "deprovisioning"
    wait_for(lambda: state(both, "my-embedder") == "404", "it was not removed")
    wait_for(lambda: not both.accepts(config["EMBEDDING_KEY"]), "its key still works")
    wait_for_agreement(both)


@pytest.mark.parametrize(
    ("side", "moment"),
    [
        ("provider", "provider.grants._store before"),  # tokens that nobody has
        ("platform", "platform.partner_actions.mark_provisioned after"),
    ],
)
def test_a_process_killed_while_provisioning(both: Both, side: str, moment: str) -> None:
    killed: Deployment = getattr(both, side)
    killed.crash_at.write_text(moment)
    name = f"killed-{len(both.platform.call('GET', '/addons').json())}"
    with suppress(httpx.HTTPError):  # of the process that is killed
        order(both, name, name.upper().replace("-", "_"))
    wait_for(lambda: not killed.crash_at.exists(), "it did not come to that")
    wait_for(lambda: is_up(killed), "it was not started anew")
    wait_for_agreement(both)
    assert state(both, name) == "provisioned"


def test_a_process_killed_while_removing(both: Both) -> None:
    order(both, "doomed", "DOOMED")
    wait_for_agreement(both)
    key = both.config()["DOOMED_KEY"]
    both.platform.crash_at.write_text("platform.provider_client.deprovision after")
    with suppress(httpx.HTTPError):
        both.platform.call("DELETE", "/apps/shop/addons/doomed")
    wait_for(lambda: not both.platform.crash_at.exists(), "it did not come to that")
    wait_for(lambda: is_up(both.platform), "it was not started anew")
    wait_for(lambda: state(both, "doomed") == "404", "it was not removed")
    wait_for_agreement(both)
    assert not both.accepts(key)
