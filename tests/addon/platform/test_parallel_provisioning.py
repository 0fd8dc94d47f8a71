"""Many orders at once, over HTTP, from a web process of the Procfile that is also the provider."""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from django.conf import settings

from addon.platform.accounts import create_account
from addon.platform.addon_services import register
from addon.platform.models import Addon, App, Attachment, AttachmentState, ConfigVar
from addon.provider.manifest import own_manifest
from addon.provider.models import Credential, Resource
from bench.processes import running_process
from billing.models import Subscription
from billing.plans import sync_plans
from config.embedded_servers import free_port
from config.processes import read_procfile
from tests.addon.platform.helpers import Api, api_of, new_app

START_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 60.0  # the CLI's


@pytest.fixture
def url(transactional_db: None, tmp_path: Path) -> Iterator[str]:
    """Of a web process on this test's database."""
    port = free_port()
    database = urlsplit(os.environ["DATABASE_URL"])
    name = settings.DATABASES["default"]["NAME"]
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DATABASE_URL": urlunsplit(database._replace(path=f"/{name}")),
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"
    log = tmp_path / "web.log"
    command = read_procfile(settings.BASE_DIR / "Procfile")["web"]
    with running_process(command, environ, log) as process:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        sync_plans()
        register(replace(own_manifest(), base_url=f"{url}/heroku/resources"))
        yield url


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/addon-services").status_code == 200
    except httpx.HTTPError:
        return False


def order_at_once(url: str, orders: list[tuple[Api, str]]) -> list[httpx.Response]:
    """What each (account, app) is answered that orders an add-on, all at the same moment."""
    start = Barrier(len(orders))

    def order(client: httpx.Client, api: Api, app: str) -> httpx.Response:
        start.wait(REQUEST_TIMEOUT_S)
        return client.post(
            f"{url}/apps/{app}/addons",
            json={"plan": "heroku-inference:standard", "attachment": {}, "config": {}},
            headers={"Authorization": f"Bearer {api.token}"},
        )

    limits = httpx.Limits(max_connections=len(orders))
    with (
        httpx.Client(timeout=REQUEST_TIMEOUT_S, limits=limits, trust_env=False) as client,
        ThreadPoolExecutor(len(orders)) as threads,
    ):
        return list(threads.map(lambda each: order(client, *each), orders))


def check_all_is_there(answers: list[httpx.Response]) -> list[dict[str, Any]]:
    """That each order has its add-on, attachment, credential, subscription and config vars."""
    assert {answer.status_code for answer in answers} == {201}, [
        answer.text for answer in answers if answer.status_code != 201
    ]
    ordered: list[dict[str, Any]] = [answer.json() for answer in answers]
    ids = {addon["id"] for addon in ordered}
    assert {addon["state"] for addon in ordered} == {"provisioned"}
    assert len({addon["name"] for addon in ordered}) == len(ids) == len(answers)
    assert {str(addon.id) for addon in Addon.objects.all()} == ids
    assert {str(resource.id) for resource in Resource.objects.all()} == ids
    assert {str(row.resource_id) for row in Subscription.objects.all()} == ids
    attachments = list(Attachment.objects.all())
    assert {str(attachment.addon_id) for attachment in attachments} == ids
    assert {attachment.state for attachment in attachments} == {AttachmentState.ATTACHED}
    assert len(attachments) == len(ids) == Credential.objects.count()
    config_vars = {(var.app_id, var.name) for var in ConfigVar.objects.all()}
    assert config_vars == {
        (attachment.app_id, f"{attachment.name}_{ending}")
        for attachment in attachments
        for ending in ("KEY", "MODEL_ID", "URL")
    }
    for app in App.objects.all():
        versions = sorted(release.version for release in app.releases.all())
        assert versions == list(range(1, len(versions) + 1))
    return ordered


def test_two_hundred_orders_of_twenty_accounts_at_once_all_succeed(url: str) -> None:
    orders = []
    for number in range(20):
        account = create_account(f"dev-{number}@example.com")
        new_app(account, f"app-{number}")
        orders += [(api_of(account), f"app-{number}")] * 10
    ordered = check_all_is_there(order_at_once(url, orders))
    assert len(ordered) == 200


def test_orders_on_one_app_queue_up(url: str) -> None:
    account = create_account("dev@example.com")
    new_app(account, "shop")
    ordered = check_all_is_there(order_at_once(url, [(api_of(account), "shop")] * 25))
    names = {name for addon in ordered for name in addon["config_vars"] if name.endswith("_KEY")}
    assert len(names) == 25
    assert "INFERENCE_KEY" in names
