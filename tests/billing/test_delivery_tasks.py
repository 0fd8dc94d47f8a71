"""One run at a time delivers, so that what hangs does not take all of the worker's threads."""

import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from pytest_django import Settings

from billing import tasks
from billing.models import Notification
from billing.notifications import queue_webhook
from tests.billing.stand_ins import stand_in

pytestmark = pytest.mark.django_db

LOCK = "hashtext('billing.deliver_notifications')"


def test_a_run_beside_another_does_nothing_and_the_next_one_delivers(
    settings: Settings, operator: psycopg.Connection[Any]
) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    with stand_in() as server:
        data = {"budget_id": str(uuid.uuid4())}
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        queue_webhook(server.url, secret, event="x", data=data, now=datetime.now(UTC))
        operator.execute(f"SELECT pg_advisory_lock({LOCK})")
        tasks.deliver_notifications()
        assert not server.calls
        operator.execute(f"SELECT pg_advisory_unlock({LOCK})")
        tasks.deliver_notifications()
        assert len(server.calls) == 1
    assert Notification.objects.get().delivered_at is not None
    (is_free,) = operator.execute(f"SELECT pg_try_advisory_lock({LOCK})").fetchone() or (False,)
    assert is_free


def test_a_run_that_fails_keeps_no_other_from_running(
    operator: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("billing.notifications.deliver_notifications", fail)
    with pytest.raises(RuntimeError):
        tasks.deliver_notifications()
    (is_free,) = operator.execute(f"SELECT pg_try_advisory_lock({LOCK})").fetchone() or (False,)
    assert is_free


def test_partitions_are_kept_by_one_run_at_a_time(
    operator: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[datetime] = []
    monkeypatch.setattr("billing.partitions.make_partitions", runs.append)
    with operator.transaction():
        operator.execute("SELECT pg_advisory_xact_lock(hashtext('billing.keep_partitions'))")
        tasks.keep_partitions()
        assert not runs
    tasks.keep_partitions()
    assert len(runs) == 1
