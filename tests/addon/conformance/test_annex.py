"""The suite against Annex's own provider, over HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_django.live_server_helper import LiveServer

SALT = "sso-salt-of-the-conformance-tests"
CLOCK_RUNS = 15  # times as fast


@pytest.fixture
def document(live_server: LiveServer, settings: Any) -> dict[str, Any]:
    """Its manifest, as this server serves it."""
    from addon.provider.manifest import own_document
    from billing.plans import sync_plans

    sync_plans()
    settings.SSO_SALT = SALT
    settings.PUBLIC_URL = settings.PROVIDER_URL = live_server.url
    return own_document()


def run(
    document: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *more: str,
) -> dict[str, dict[str, str]]:
    """Status → id → detail of the checks that ended so."""
    from addon.conformance.command_line import main

    path = tmp_path / "addon-manifest.json"
    path.write_text(json.dumps(document))
    plans = ("--plan", "standard", "--change-to", "dedicated")
    main([str(path), "--json", "--listen", "127.0.0.1:0", *plans, *more])
    found: dict[str, dict[str, str]] = {"passed": {}, "warned": {}, "failed": {}, "skipped": {}}
    for check in json.loads(capsys.readouterr().out)["checks"]:
        found[check["status"]][check["id"]] = check["detail"]
    found["warned"].pop("answers.fast", None)  # that depends on what else the machine does
    return found


def test_annexs_own_provider_passes(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from addon.provider.models import Resource

    found = run(document, tmp_path, capsys)
    assert (found["failed"], found["warned"]) == ({}, {})
    groups = {name.partition(".")[0] for name in found["passed"]}
    assert {"attachments", "concurrency", "deprovision", "repeats", "sso", "tolerance"} <= groups
    assert not Resource.objects.filter(deprovisioned_at=None).exists()


@pytest.fixture
def background(live_server: LiveServer) -> Iterator[None]:
    """The provider's worker, by a clock that runs fast: what waits ten seconds waits a moment."""
    from django.db import connection
    from django.utils import timezone

    from tests.addon.rounds_in_turn import reconcile_provider

    ended = threading.Event()
    began_at = timezone.now()

    def clock() -> datetime:
        now = timezone.now()
        return now + CLOCK_RUNS * (now - began_at)

    def work() -> None:
        while not ended.wait(0.02):
            reconcile_provider(clock)
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    yield
    ended.set()
    worker.join()


@pytest.mark.usefixtures("background")
def test_annexs_own_provider_passes_with_a_plan_that_takes_longer(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    from billing.models import Plan

    operations = ["provision", "plan_change", "deprovision"]
    Plan.objects.filter(slug="standard").update(async_operations=operations)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings.PLATFORM_URLS = [f"http://127.0.0.1:{port}"]
    settings.PLATFORM_TOKEN_URL = f"http://127.0.0.1:{port}/oauth/token"
    listen = ("--listen", f"127.0.0.1:{port}", "--client-secret", settings.OAUTH_CLIENT_SECRET)
    quick = ("--callbacks-within", "20")
    only = ("async", "repeats", "plan-change", "deprovision")
    groups = [argument for name in only for argument in ("--only", name)]
    found = run(document, tmp_path, capsys, *listen, *quick, *groups)
    assert (found["failed"], found["warned"]) == ({}, {})
    assert "async.retry" in found["passed"]
