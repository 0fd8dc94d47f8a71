"""The reconciler's task: a platform that hangs holds up nobody but itself."""

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from addon import rounds
from addon.provider import log_delivery, log_lines, tasks
from addon.provider.grants import OAuthGrant
from addon.provider.models import Grant, Resource
from addon.provider.provisioning import AttachmentRequest, ProvisionRequest, provision
from billing.plans import sync_plans
from tests.addon.provider.platforms import Platform, running_platform

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = "POST /oauth/token"
HANGING = 10
PATIENCE_S = 1.0


@pytest.fixture
def ended() -> threading.Event:
    """Then the one that hangs answers."""
    return threading.Event()


@pytest.fixture
def platforms(
    settings: Any, monkeypatch: pytest.MonkeyPatch, ended: threading.Event
) -> Iterator[tuple[Platform, Platform]]:
    """One that answers, and one that hangs."""
    sync_plans()

    def hang() -> None:
        ended.wait(10)

    with running_platform() as healthy, running_platform() as hanging:
        settings.PLATFORM_URLS = [healthy.url, hanging.url]
        hanging.before[TOKEN] = hang
        monkeypatch.setattr(rounds, "PATIENCE_S", PATIENCE_S)
        monkeypatch.setattr(rounds, "LOOK_AGAIN_S", 0.05)
        yield healthy, hanging
        ended.set()


def order(platform: Platform) -> Resource:
    resource_id = uuid.uuid4()
    provision(
        ProvisionRequest(
            uuid=resource_id,
            name="inference-1",
            plan_slug="standard",
            region="",
            options={},
            callback_url=f"{platform.url}/addons/{resource_id}",
            oauth_grant=OAuthGrant(code="code-1"),
            attachment=AttachmentRequest(id=uuid.uuid4(), name="EMBEDDING", app_name="shop"),
        ),
        timezone.now(),
    )
    return Resource.objects.get(id=resource_id)


def run() -> threading.Thread:
    def call() -> None:
        tasks.reconcile()
        connection.close()

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_a_platform_that_hangs_holds_up_itself(
    platforms: tuple[Platform, Platform], ended: threading.Event
) -> None:
    healthy, hanging = platforms
    for _ in range(HANGING):
        order(hanging)
    attended = order(healthy)
    began = time.monotonic()
    thread = run()
    while not Grant.objects.get(resource=attended).access_token:
        assert time.monotonic() - began < 8, "it waits for the platform that hangs"
        time.sleep(0.02)
    assert thread.is_alive()
    asked = len(hanging.calls)
    assert 0 < asked <= rounds.AT_ONCE_OF_A_PARTNER
    time.sleep(max(began + 1.5 * PATIENCE_S - time.monotonic(), 0))
    tasks.reconcile()  # a round never overlaps itself: it is over at once
    assert thread.is_alive()
    ended.set()
    thread.join(10)
    exchanged = Grant.objects.exclude(access_expires_at=None).count()
    assert exchanged < HANGING, "the rest is left to the next round"


def test_a_platform_that_hangs_when_asked_for_log_streams_holds_up_no_lines(
    platforms: tuple[Platform, Platform], ended: threading.Event, settings: Any
) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    _, hanging = platforms
    refused = order(hanging)
    Resource.objects.update(log_input_url="not the URL of a stream", next_attempt_at=None)
    refused.refresh_from_db()
    log_lines.write_plan_change(refused, "a", "b", timezone.now())
    tasks.send_log_lines()
    assert not hanging.calls
    assert [step.row_id for step in log_delivery.find_refused(timezone.now, ())] == [
        f"the log stream of {refused.id}"
    ]
    hanging.will(TOKEN, 500)
    ended.set()
    tasks.reconcile()
    assert len(hanging.calls) > 0
    assert log_delivery.find_refused(timezone.now, ()) == []  # put off
    assert Resource.objects.get(id=refused.id).log_input_url
