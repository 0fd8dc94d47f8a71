"""The reconciler's task: a provider that hangs holds up nobody but itself."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from addon import rounds
from addon.lifecycle import State
from addon.platform import tasks
from addon.platform.models import Addon, AddonService
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api

HANGING = 10
PATIENCE_S = 1.0


@pytest.fixture
def waiting(
    api: Api, bad_provider: BadProvider, provider: AddonService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Add-ons of two providers that are to be provisioned by the reconciler; one of them hangs."""
    bad_provider.will("POST", 500)
    provider_password = provider.password
    AddonService.objects.filter(id=provider.id).update(password="none of its own")
    for count in range(HANGING):
        api.add("shop", f"DB_{count}", plan="fast-db")
    api.add("shop", "EMBEDDING", name="healthy")
    AddonService.objects.filter(id=provider.id).update(password=provider_password)
    assert set(Addon.objects.values_list("state", flat=True)) == {State.PROVISIONING}
    Addon.objects.update(next_attempt_at=timezone.now() - timedelta(seconds=1))
    # The one that works is due last.
    Addon.objects.filter(name="healthy").update(next_attempt_at=timezone.now())
    bad_provider.calls.clear()
    bad_provider.will("POST", hangs=True)
    monkeypatch.setattr(rounds, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(rounds, "LOOK_AGAIN_S", 0.05)


def run(task: Callable[[], None]) -> threading.Thread:
    def call() -> None:
        task()
        connection.close()

    thread = threading.Thread(target=call)
    thread.start()
    return thread


@pytest.mark.usefixtures("shop", "waiting")
def test_a_provider_that_hangs_holds_up_itself(bad_provider: BadProvider) -> None:
    began = time.monotonic()
    thread = run(tasks.reconcile)
    while Addon.objects.get(name="healthy").state != State.PROVISIONED:
        assert time.monotonic() - began < 8, "it waits for the provider that hangs"
        time.sleep(0.02)
    assert thread.is_alive()
    asked = len(bad_provider.calls)
    assert 0 < asked <= rounds.AT_ONCE_OF_A_PARTNER
    time.sleep(max(began + 1.5 * PATIENCE_S - time.monotonic(), 0))
    tasks.reconcile()  # a round never overlaps itself: it is over at once
    assert thread.is_alive()
    bad_provider.ended.set()
    thread.join(10)
    assert len(bad_provider.calls) == asked, "the rest is left to the next round"
    assert Addon.objects.filter(last_error__contains="no answer").count() == asked
