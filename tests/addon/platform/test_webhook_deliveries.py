"""Events are posted signed, in order, until a receiver takes them; one keeps no other waiting."""

import hmac
import json
import logging
import threading
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.test import TestCase
from django.utils import timezone
from pytest_django import Settings

from addon.platform import changes, tasks, webhook_deliveries, webhooks
from addon.platform.accounts import create_account
from addon.platform.changes import Change, Kind
from addon.platform.models import (
    Account,
    App,
    DeliveryStatus,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
)
from addon.platform.webhook_deliveries import (
    AT_ONCE_OF_AN_OWNER,
    KEPT,
    LEASE,
    LOST_AFTER,
    RETRIED_FOR,
    deliver_webhooks,
    prune_webhooks,
    revive_webhooks,
)
from tests.addon.platform.helpers import Api, new_app
from tests.billing.parallel import at_once
from tests.billing.stand_ins import Call, Reply, stand_in

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECRET = "sesame-sesame"


@pytest.fixture(autouse=True)
def _stand_ins_may_be_called(settings: Settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True


def webhook(app: App, url: str, level: str = "sync", **more: Any) -> Webhook:
    return Webhook.objects.create(
        app=app, url=url, include=["api:app"], level=level, created_at=NOW, updated_at=NOW,
        **{"secret": SECRET, **more},
    )  # fmt: skip


def change(app: App, name: str = "", at: datetime = NOW) -> None:
    """An event whose previous name says which it is."""
    with TestCase.captureOnCommitCallbacks(execute=True), transaction.atomic():
        changes.announce(
            Change(
                kind=Kind.APP, action="update", app=app, row=app, account=app.owner, at=at,
                previous={"name": name},
            )
        )  # fmt: skip


def deliver(after: timedelta = timedelta()) -> None:
    deliver_webhooks(lambda: NOW + after)


def names(calls: list[Call]) -> list[str]:
    return [json.loads(call.body)["previous_data"]["name"] for call in calls]


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_it_arrives_once_with_its_ids_and_herokus_signature_of_the_very_bytes(shop: App) -> None:
    with stand_in(Reply(status=204)) as server:
        made = webhook(shop, f"{server.url}/hooks?x=1", authorization="Bearer open-up")
        change(shop)
        deliver()
        deliver(timedelta(days=1))
    (call,) = server.calls
    assert call.path == "/hooks?x=1"
    signature = b64encode(hmac.digest(SECRET.encode(), call.body, "sha256")).decode()
    assert call.headers["heroku-webhook-hmac-sha256"] == signature
    assert call.headers["authorization"] == "Bearer open-up"
    assert call.headers["content-type"] == "application/json"
    event, delivery = WebhookEvent.objects.get(), WebhookDelivery.objects.get()
    assert delivery.last_attempt is not None
    assert call.json == {
        **event.payload,
        "webhook_metadata": {
            "attempt": {"id": delivery.last_attempt["id"]},
            "delivery": {"id": str(delivery.id)},
            "event": {"id": str(event.id), "include": "api:app"},
            "webhook": {"id": str(made.id)},
        },
    }
    assert delivery.last_attempt == {
        "id": delivery.last_attempt["id"],
        "code": 204,
        "error_class": None,
        "status": "succeeded",
        "created_at": "2026-11-21T12:00:00Z",
        "updated_at": "2026-11-21T12:00:00Z",
    }
    assert (delivery.status, delivery.attempts, delivery.next_attempt_at) == ("succeeded", 1, None)
    made.refresh_from_db()
    assert made.next_attempt_at is None


def test_without_an_authorization_there_is_no_such_header(shop: App) -> None:
    with stand_in() as server:
        webhook(shop, server.url)
        change(shop)
        deliver()
    assert "authorization" not in server.calls[0].headers


def test_notify_is_one_attempt(shop: App) -> None:
    with stand_in(Reply(status=500)) as server:
        made = webhook(shop, server.url, "notify")
        change(shop, "first")
        change(shop, "second")
        deliver()
        deliver(timedelta(days=1))
    assert names(server.calls) == ["first", "second"]
    for delivery in WebhookDelivery.objects.all():
        assert (delivery.status, delivery.attempts) == ("failed", 1)
        assert delivery.last_attempt is not None
        assert delivery.last_attempt["code"] == 500
        assert delivery.last_attempt["error_class"] == "NotAccepted"
    made.refresh_from_db()
    assert made.next_attempt_at is None


def test_sync_waits_longer_and_longer_up_to_an_hour_for_72_hours_and_the_rest_waits_behind(
    shop: App,
) -> None:
    with stand_in(Reply(status=503)) as server:
        made = webhook(shop, server.url)
        change(shop, "first")
        change(shop, "second")
        at, waits = NOW, []
        while "second" not in names(server.calls):
            deliver_webhooks(lambda: at)  # noqa: B023 - called at once
            made.refresh_from_db()
            assert made.next_attempt_at is not None
            waits.append(made.next_attempt_at - at)
            at = made.next_attempt_at
        deliver_webhooks(lambda: at - seconds(1))
    for wait, doubled_s in zip(waits[:-1], (10 * 2**n for n in range(100)), strict=False):
        assert min(doubled_s, 3_600) / 2 <= wait.total_seconds() <= min(doubled_s, 3_600)
    first, second = WebhookDelivery.objects.order_by("seq")
    assert (first.status, first.next_attempt_at) == ("failed", None)
    assert RETRIED_FOR - seconds(3_600) < first.updated_at - NOW < RETRIED_FOR
    assert (first.attempts, second.attempts) == (len(server.calls) - 1, 1)
    assert first.attempts > 72


def test_sync_gives_one_attempt_to_what_has_waited_too_long_behind_another(shop: App) -> None:
    with stand_in(Reply(status=503)) as server:
        webhook(shop, server.url)
        change(shop, "old", NOW - RETRIED_FOR)
        change(shop, "new")
        deliver()
    assert names(server.calls) == ["old", "new"]
    assert [(row.status, row.attempts) for row in WebhookDelivery.objects.order_by("seq")] == [
        ("failed", 1), ("retrying", 1),
    ]  # fmt: skip


def test_one_that_recovers_goes_on_in_order(shop: App, api: Api) -> None:
    replies = iter([Reply(status=503), Reply(is_cut=True), *[Reply()] * 3])
    with stand_in(answer=lambda _: next(replies)) as server:
        webhook(shop, server.url)
        for name in ("a", "b", "c"):
            change(shop, name)
        deliver()
        retried, *waiting = api.get("/apps/shop/webhook-deliveries").json()
        assert (retried["status"], retried["num_attempts"]) == ("retrying", 1)
        assert retried["last_attempt"]["code"] == 503
        assert retried["next_attempt_at"] > "2026-11-21T12:00:04Z"
        assert {row["status"] for row in waiting} == {"pending"}
        deliver(seconds(10))
        deliver(seconds(40))
    assert names(server.calls) == ["a", "a", "a", "b", "c"]
    sent_as = [json.loads(call.body)["webhook_metadata"] for call in server.calls[:3]]
    assert len({ids["delivery"]["id"] for ids in sent_as}) == 1
    assert len({ids["attempt"]["id"] for ids in sent_as}) == 3
    assert {delivery.status for delivery in WebhookDelivery.objects.all()} == {"succeeded"}


def test_410_fails_at_once_and_removes_nothing(shop: App) -> None:
    replies = iter([Reply(status=410), Reply()])
    with stand_in(answer=lambda _: next(replies)) as server:
        webhook(shop, server.url)
        change(shop)
        change(shop)
        deliver()
    assert [delivery.status for delivery in WebhookDelivery.objects.order_by("seq")] == [
        "failed", "succeeded",
    ]  # fmt: skip
    assert Webhook.objects.count() == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(shop: App, status: int) -> None:
    with stand_in() as other:
        with stand_in(Reply(status=status, headers={"location": other.url})) as server:
            webhook(shop, server.url, "notify")
            change(shop)
            deliver()
        assert not other.calls
    attempt = WebhookDelivery.objects.get().last_attempt
    assert attempt is not None
    assert attempt["code"] == status


def test_a_private_address_is_not_called(shop: App, settings: Settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    with stand_in() as server:
        webhook(shop, server.url)
        change(shop)
        deliver()
    assert not server.calls
    delivery = WebhookDelivery.objects.get()
    assert delivery.status == DeliveryStatus.RETRYING
    assert delivery.last_attempt is not None
    assert delivery.last_attempt["code"] is None
    assert delivery.last_attempt["error_class"] == "PrivateAddress"


def test_an_endless_answer_is_not_read(shop: App) -> None:
    with stand_in(Reply(body=b"x" * 50_000_000)) as server:
        webhook(shop, server.url)
        change(shop)
        deliver()
        assert server.hung_up.wait(30)
    assert WebhookDelivery.objects.get().status == DeliveryStatus.SUCCEEDED


def test_a_worker_that_dies_between_post_and_note_has_its_delivery_repeated(
    shop: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*args: object) -> None:
        raise Killed

    with stand_in() as server:
        webhook(shop, server.url, "notify")
        change(shop, "first")
        change(shop, "second")
        monkeypatch.setattr(webhook_deliveries, "_finish", die)
        with pytest.raises(Killed):
            deliver()
        monkeypatch.undo()
        assert WebhookDelivery.objects.order_by("seq")[0].last_attempt["status"] == "scheduled"  # type: ignore[index]
        deliver(LEASE - seconds(1))
        assert names(server.calls) == ["first"]
        deliver(LEASE)
    assert names(server.calls) == ["first", "first", "second"]
    first = WebhookDelivery.objects.order_by("seq")[0]
    assert (first.status, first.attempts) == ("succeeded", 2)


def test_a_note_that_comes_after_its_lease_changes_nothing(shop: App) -> None:
    with stand_in() as server:
        made = webhook(shop, server.url)
        change(shop)
        (late,) = webhook_deliveries._claim_due([], NOW)
        (claimed,) = webhook_deliveries._claim_due([], NOW + LEASE)
        webhook_deliveries._finish(late, webhook_deliveries.Outcome(code=200), NOW + LEASE)
        assert WebhookDelivery.objects.get().status == DeliveryStatus.PENDING
        webhook_deliveries._finish(claimed, webhook_deliveries.Outcome(code=200), NOW + LEASE)
    assert WebhookDelivery.objects.get().status == DeliveryStatus.SUCCEEDED
    made.refresh_from_db()
    assert made.next_attempt_at is None


def test_one_that_hangs_keeps_no_other_webhook_waiting(shop: App) -> None:
    others_were_called = threading.Barrier(4)

    def answer(_: Call) -> Reply:
        others_were_called.wait(30)
        return Reply()

    with ExitStack() as stack:
        servers = [stack.enter_context(stand_in(answer=answer)) for _ in range(4)]
        for server in servers:
            webhook(shop, server.url)
        change(shop)
        deliver()
    assert [len(server.calls) for server in servers] == [1] * 4
    assert WebhookDelivery.objects.filter(status=DeliveryStatus.SUCCEEDED).count() == 4


def test_one_that_hangs_is_given_up(shop: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.webhooks.TIMEOUT_S", 0.2)
    with stand_in(Reply(after_s=60)) as slow:
        webhook(shop, slow.url)
        change(shop)
        deliver()
    hung = WebhookDelivery.objects.get(status=DeliveryStatus.RETRYING)
    assert hung.last_attempt is not None
    assert hung.last_attempt["error_class"] == "NoAnswer"


def test_what_hangs_of_one_owner_leaves_places_for_others(shop: App) -> None:
    other = new_app(create_account("other@example.com"), "other")
    most, lock = {"shop": 0, "other": 0}, threading.Lock()
    running = {"shop": 0, "other": 0}

    def counting(name: str) -> Callable[[Call], Reply]:
        def answer(_: Call) -> Reply:
            running[name] += 1
            most[name] = max(most[name], running[name])
            threading.Timer(0.3, leave, [name]).start()
            return Reply(after_s=0.3)

        return answer

    def leave(name: str) -> None:
        with lock:
            running[name] -= 1

    with stand_in(answer=counting("shop")) as greedy, stand_in(answer=counting("other")) as modest:
        for _ in range(AT_ONCE_OF_AN_OWNER + 6):
            webhook(shop, greedy.url)
        webhook(other, modest.url)
        change(shop, at=NOW - seconds(1))
        change(other)
        deliver()
    assert most["shop"] <= AT_ONCE_OF_AN_OWNER + 1  # the timers run a little late
    assert (len(greedy.calls), len(modest.calls)) == (AT_ONCE_OF_AN_OWNER + 6, 1)


def test_two_runs_at_once_post_each_delivery_once_and_in_order(
    transactional_db: None, account: Account
) -> None:
    app = new_app(account, "busy")
    with stand_in(Reply(after_s=0.02)) as server:
        for _ in range(4):
            webhook(app, server.url)
        for name in ("a", "b", "c"):
            change(app, name)
        at_once(3, deliver)
    assert len(server.calls) == 12
    for made in Webhook.objects.all():
        of_it = [
            call for call in server.calls
            if json.loads(call.body)["webhook_metadata"]["webhook"]["id"] == str(made.id)
        ]  # fmt: skip
        assert names(of_it) == ["a", "b", "c"]


def test_changes_deliveries_and_removals_beside_each_other_never_fail_nor_lose_one(
    transactional_db: None, account: Account
) -> None:
    app = new_app(account, "busy")
    with stand_in() as server:
        kept = webhook(app, server.url)
        is_over = threading.Event()

        def tell() -> None:
            for number in range(8):
                change(app, str(number))

        def remove_others() -> None:
            for _ in range(8):
                webhooks.remove_webhook(webhook(app, server.url, "notify"))

        def keep_delivering() -> None:
            while not is_over.is_set():
                deliver()
            deliver()

        steps = iter([tell, tell, remove_others, keep_delivering])
        left = [3]

        def run() -> None:
            step = next(steps)
            try:
                step()
            finally:
                if step is not keep_delivering:
                    left[0] -= 1
                if left == [0]:
                    is_over.set()

        at_once(4, run)
    of_it = [
        call for call in server.calls
        if json.loads(call.body)["webhook_metadata"]["webhook"]["id"] == str(kept.id)
    ]  # fmt: skip
    assert sorted(names(of_it)) == sorted([*map(str, range(8))] * 2)


def test_a_change_of_the_webhook_tries_what_waits_at_once(shop: App) -> None:
    with stand_in(Reply(status=500)) as wrong, stand_in() as right:
        made = webhook(shop, wrong.url)
        change(shop)
        deliver()
        with TestCase.captureOnCommitCallbacks(execute=True):
            webhooks.change_webhook(made, {"url": right.url}, NOW + seconds(1))
        deliver(seconds(1))
    assert (len(wrong.calls), len(right.calls)) == (1, 1)


def test_a_change_while_one_is_tried_does_not_make_it_twice(shop: App) -> None:
    with stand_in() as server:
        made = webhook(shop, server.url)
        change(shop)
        (attempt,) = webhook_deliveries._claim_due([], NOW)
        webhooks.change_webhook(made, {"level": "notify"}, NOW + seconds(1))
        deliver(seconds(2))
        assert not server.calls
        webhook_deliveries._finish(
            attempt, webhook_deliveries.Outcome(code=500, error="NotAccepted"), NOW + seconds(3)
        )
    assert WebhookDelivery.objects.get().status == DeliveryStatus.FAILED


def test_one_that_is_removed_while_it_is_tried_leaves_nothing(shop: App) -> None:
    made = webhook(shop, "http://127.0.0.1:9/")
    change(shop)
    (attempt,) = webhook_deliveries._claim_due([], NOW)
    webhooks.remove_webhook(made)
    webhook_deliveries._finish(attempt, webhook_deliveries.Outcome(code=200), NOW)
    assert not WebhookDelivery.objects.exists()


def test_a_secret_that_no_key_decrypts_keeps_no_other_waiting(
    shop: App, caplog: pytest.LogCaptureFixture
) -> None:
    with stand_in() as server:
        broken = webhook(shop, server.url)
        webhook(shop, server.url)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE platform_webhook SET secret = 'not encrypted' WHERE id = %s", [broken.id]
            )
        change(shop)
        deliver()
        assert len(server.calls) == 1
    delivery = WebhookDelivery.objects.get(webhook_id=broken.id)
    assert delivery.status == DeliveryStatus.RETRYING
    assert delivery.last_attempt is not None
    assert delivery.last_attempt["error_class"] == "InvalidToken"
    assert f"delivery {delivery.id} broke" in caplog.text


def test_secrets_are_in_no_log(shop: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with stand_in(Reply(status=500)) as server:
        webhook(shop, server.url, authorization="Bearer open-up")
        change(shop)
        deliver()
    assert SECRET not in caplog.text
    assert "open-up" not in caplog.text


def test_a_worker_that_is_told_to_stop_begins_no_more(shop: App) -> None:
    with stand_in() as server:
        webhook(shop, server.url)
        change(shop, "first")
        change(shop, "second")
        deliver_webhooks(lambda: NOW, lambda: bool(server.calls))
        assert names(server.calls) == ["first"]
        deliver()
    assert names(server.calls) == ["first", "second"]


def test_what_a_process_that_died_after_its_commit_left_is_found(shop: App) -> None:
    with stand_in() as server:
        made = webhook(shop, server.url)
        change(shop)
        Webhook.objects.filter(id=made.id).update(next_attempt_at=None)
        revive_webhooks(NOW + LOST_AFTER)
        deliver(LOST_AFTER)
        assert not server.calls
        revive_webhooks(NOW + LOST_AFTER + seconds(1))
        deliver(LOST_AFTER + seconds(1))
        assert len(server.calls) == 1


def test_the_event_of_an_app_that_is_destroyed_still_goes_out(shop: App) -> None:
    with stand_in() as server:
        webhook(shop, server.url)
        shop.destroyed_at = NOW
        shop.save()
        change(shop, "shop")
        deliver()
    assert names(server.calls) == ["shop"]


def test_a_run_beside_another_leaves_it_to_that(shop: App) -> None:
    lock = "SELECT pg_advisory_lock(hashtext('addon.platform.deliver_webhooks'))"
    parameters = connection.get_connection_params()
    given = {name: parameters[name] for name in ("dbname", "user", "host")}
    with stand_in() as server:
        webhook(shop, server.url)
        change(shop, at=timezone.now())
        with psycopg.connect(**given, autocommit=True) as other:
            other.execute(lock)
            tasks.deliver_webhooks()
            assert not server.calls
            # Here, for a connection that is closed keeps its locks until its process has ended.
            other.execute("SELECT pg_advisory_unlock_all()")
        tasks.deliver_webhooks()
        assert len(server.calls) == 1


def test_what_is_old_is_forgotten_in_batches(shop: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_deliveries, "PRUNED_AT_ONCE", 2)
    kept = webhook(shop, "http://127.0.0.1:9/")
    for days in (40, 35, 31, 30, 29):
        change(shop, str(days), NOW - timedelta(days=days))
    prune_webhooks(NOW)
    left = [
        event.payload["previous_data"]["name"] for event in WebhookEvent.objects.order_by("seq")
    ]
    assert left == ["30", "29"]
    assert WebhookDelivery.objects.count() == 2
    assert Webhook.objects.get() == kept


def test_webhooks_of_an_app_that_is_long_destroyed_are_removed(shop: App, blog: App) -> None:
    webhook(shop, "http://127.0.0.1:9/")
    kept = webhook(blog, "http://127.0.0.1:9/")
    App.objects.filter(id=shop.id).update(destroyed_at=NOW - KEPT - seconds(1))
    App.objects.filter(id=blog.id).update(destroyed_at=NOW - KEPT)
    prune_webhooks(NOW)
    assert Webhook.objects.get() == kept
