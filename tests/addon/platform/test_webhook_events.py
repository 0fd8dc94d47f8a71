"""What changes on an app is an event of each webhook that includes it, if the change holds."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import transaction
from django.test import TestCase
from pytest_django import DjangoAssertNumQueries
from redis import Redis

from addon.platform import changes, config_vars
from addon.platform.changes import Change, Kind
from addon.platform.models import (
    Account,
    AddonService,
    App,
    DeliveryStatus,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
)
from addon.platform.webhooks import WEBHOOKS_MAX
from tests.addon.platform.helpers import Api

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def webhook(app: App, *include: str, level: str = "sync") -> Webhook:
    return Webhook.objects.create(
        app=app, url="https://hooks.example.com/", include=include or ["api:app"], level=level,
        secret="sesame", created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def announce(app: App, kind: Kind = Kind.APP, row: Any = None, **more: Any) -> None:
    with TestCase.captureOnCommitCallbacks(execute=True), transaction.atomic():
        changes.announce(
            Change(
                kind=kind, action=more.pop("action", "update"), app=app, row=row or app,
                account=app.owner, at=NOW, **more,
            )
        )  # fmt: skip


def test_an_event_has_herokus_fields(account: Account, api: Api, shop: App) -> None:
    made = webhook(shop)
    announce(shop, previous={"name": "old-shop", "updated_at": NOW})
    event = WebhookEvent.objects.get()
    assert event.payload == {
        "action": "update",
        "actor": {"email": "dev@example.com", "id": str(account.id)},
        "created_at": "2026-11-21T12:00:00Z",
        "data": api.get("/apps/shop").json(),
        "id": str(event.id),
        "previous_data": {"name": "old-shop", "updated_at": "2026-11-21T12:00:00Z"},
        "published_at": "2026-11-21T12:00:00Z",
        "resource": "app",
        "sequence": None,
        "updated_at": "2026-11-21T12:00:00Z",
        "version": "application/vnd.heroku+json; version=3",
    }
    delivery = WebhookDelivery.objects.get()
    assert (delivery.event, delivery.webhook) == (event, made)
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, 0)
    made.refresh_from_db()
    assert made.next_attempt_at == NOW


def test_only_webhooks_that_include_the_kind_get_it(shop: App, blog: App) -> None:
    both = webhook(shop, "api:app", "api:addon")
    webhook(shop, "api:addon")
    webhook(blog)
    announce(shop)
    assert [delivery.webhook for delivery in WebhookDelivery.objects.all()] == [both]


def test_an_app_without_webhooks_costs_one_query_and_no_row(
    shop: App, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    release = shop.releases.get()
    with django_assert_num_queries(3):  # with the two of the transaction
        announce(shop, Kind.RELEASE, release)
    assert not WebhookEvent.objects.exists()


def test_a_change_that_is_rolled_back_was_not_told(shop: App) -> None:
    made = webhook(shop)
    with transaction.atomic():
        announce(shop)
        assert WebhookEvent.objects.exists()
        transaction.set_rollback(True)
    assert not WebhookEvent.objects.exists()
    made.refresh_from_db()
    assert made.next_attempt_at is None


def test_a_worker_is_woken_after_the_transaction_once(shop: App, redis_client: Redis) -> None:
    made = webhook(shop)
    announce(shop)
    announce(shop)
    (message,) = redis_client.lrange("control", 0, -1)
    assert json.loads(message)["headers"]["task"] == "addon.platform.deliver_webhooks"
    made.refresh_from_db()
    assert made.next_attempt_at == NOW


def test_without_a_broker_the_change_holds_and_the_log_has_it(
    shop: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("addon.platform.tasks.deliver_webhooks.apply_async", refuse)
    webhook(shop)
    announce(shop)
    assert WebhookDelivery.objects.count() == 1
    assert "ConnectionError" in caplog.text


def test_an_app_with_as_many_as_it_can_have_tells_each(shop: App) -> None:
    for _ in range(WEBHOOKS_MAX):
        webhook(shop)
    announce(shop)
    assert WebhookDelivery.objects.count() == WEBHOOKS_MAX
    assert WebhookEvent.objects.count() == 1


def test_events_and_deliveries_can_be_listed_and_looked_at(api: Api, shop: App) -> None:
    made = webhook(shop)
    announce(shop, previous={"name": "old-shop"})
    announce(shop, action="destroy")
    first, second = api.get("/apps/shop/webhook-events").json()
    assert set(first["payload"]) == {
        "action", "actor", "data", "previous_data", "published_at", "resource", "version",
    }  # fmt: skip
    assert first["payload"]["previous_data"] == {"name": "old-shop"}
    assert api.get(f"/apps/shop/webhook-events/{second['id']}").json() == second
    listed = api.get("/apps/shop/webhook-deliveries", Range="seq ..; order=desc,max=1000").json()
    assert [row["event"] for row in listed] == [
        {"id": second["id"], "include": "api:app"},
        {"id": first["id"], "include": "api:app"},
    ]
    assert listed[0] == {
        "created_at": "2026-11-21T12:00:00Z",
        "event": listed[0]["event"],
        "id": listed[0]["id"],
        "last_attempt": None,
        "next_attempt_at": None,
        "num_attempts": 0,
        "status": "pending",
        "updated_at": "2026-11-21T12:00:00Z",
        "webhook": {"id": str(made.id), "level": "sync"},
    }
    assert api.get(f"/apps/shop/webhook-deliveries/{listed[0]['id']}").json() == listed[0]


def test_deliveries_are_listed_by_status_and_by_the_page(api: Api, shop: App) -> None:
    webhook(shop)
    for _ in range(3):
        announce(shop)
    newest = WebhookDelivery.objects.order_by("-seq")[0]
    WebhookDelivery.objects.filter(id=newest.id).update(status=DeliveryStatus.FAILED)
    path = "/apps/shop/webhook-deliveries"
    (failed,) = api.get(f"{path}?eq[status]=failed").json()
    assert failed["id"] == str(newest.id)
    refusal = api.get(f"{path}?eq[status]=lost")
    assert refusal.status_code == 422
    assert "pending, retrying, succeeded, failed" in refusal.json()["message"]
    page = api.get(path, Range="seq ..; order=desc,max=2")
    assert page.status_code == 206
    assert page.json()[0] == failed
    rest = api.get(path, Range=page["Next-Range"])
    assert (rest.status_code, len(rest.json())) == (200, 1)


class TestChangesOfTheDomain:
    """What the Platform API does is told, with the rows as that API shows them."""

    pytestmark = pytest.mark.django_db(transaction=True)

    def events(self, include: str) -> list[dict[str, Any]]:
        return [
            event.payload for event in WebhookEvent.objects.filter(include=include).order_by("seq")
        ]

    def test_an_add_on_from_its_order_to_its_end(
        self, api: Api, shop: App, provider: AddonService
    ) -> None:
        webhook(shop, *Kind)
        added = api.add("shop", "EMBEDDING").json()
        created, provisioned = self.events("api:addon")
        assert (created["action"], created["data"]["state"]) == ("create", "provisioning")
        assert created["data"]["config_vars"] == []
        assert (provisioned["action"], provisioned["data"]["state"]) == ("update", "provisioned")
        assert provisioned["previous_data"] == {"state": "provisioning"}
        assert provisioned["data"]["id"] == added["id"]
        (attached,) = self.events("api:addon-attachment")
        assert attached["data"] == api.get("/apps/shop/addon-attachments").json()[0]
        releases = [event["data"]["description"] for event in self.events("api:release")]
        assert releases == api.releases("shop")[1:]
        config = api.config("shop")
        api.delete(f"/apps/shop/addons/{added['name']}")
        assert self.events("api:addon-attachment")[-1]["action"] == "destroy"
        assert self.events("api:addon")[-1]["action"] == "destroy"
        told = json.dumps([event.payload for event in WebhookEvent.objects.all()])
        assert config["EMBEDDING_KEY"] not in told

    def test_the_end_of_an_app_and_of_what_was_on_it(
        self, api: Api, shop: App, provider: AddonService
    ) -> None:
        webhook(shop, *Kind)
        api.add("shop", "EMBEDDING")
        assert api.delete("/apps/shop").status_code == 200
        assert self.events("api:app")[-1]["action"] == "destroy"
        assert self.events("api:addon")[-1]["action"] == "destroy"

    def test_the_plan_and_the_name_of_an_add_on(
        self, api: Api, shop: App, provider: AddonService
    ) -> None:
        added = api.add("shop", "EMBEDDING", "heroku-inference:standard").json()
        webhook(shop, "api:addon")
        path = f"/apps/shop/addons/{added['id']}"
        assert api.patch(path, {"plan": "heroku-inference:dedicated"}).status_code == 200
        assert api.patch(path, {"name": "vectors"}).status_code == 200
        changed, renamed = self.events("api:addon")
        assert changed["previous_data"]["plan"]["name"] == "heroku-inference:standard"
        assert changed["data"]["plan"]["name"] == "heroku-inference:dedicated"
        assert renamed["previous_data"] == {"name": added["name"]}
        assert renamed["data"]["name"] == "vectors"

    def test_an_attachment_is_told_where_it_is_used(
        self, api: Api, shop: App, blog: App, provider: AddonService
    ) -> None:
        added = api.add("shop", "EMBEDDING").json()
        webhook(blog, "api:addon", "api:addon-attachment")
        body = {"addon": added["id"], "app": "blog"}
        attached = api.post("/addon-attachments", body).json()
        assert api.delete(f"/addon-attachments/{attached['id']}").status_code == 200
        created, destroyed = self.events("api:addon-attachment")
        assert (created["action"], created["data"]) == ("create", attached)
        assert (destroyed["action"], destroyed["data"]["id"]) == ("destroy", attached["id"])
        assert self.events("api:addon") == []

    def test_the_name_of_an_app(self, api: Api, shop: App) -> None:
        webhook(shop, "api:app")
        assert api.patch("/apps/shop", {"name": "store"}).status_code == 200
        (event,) = self.events("api:app")
        assert event["data"]["name"] == "store"
        assert event["previous_data"]["name"] == "shop"

    def test_a_collaborator(self, api: Api, stranger: Api, shop: App) -> None:
        webhook(shop, "api:collaborator")
        body = {"user": "stranger@example.com"}
        assert api.post("/apps/shop/collaborators", body).status_code == 201
        assert api.delete("/apps/shop/collaborators/stranger@example.com").status_code == 200
        created, destroyed = self.events("api:collaborator")
        assert (created["action"], destroyed["action"]) == ("create", "destroy")
        assert created["data"]["user"]["email"] == "stranger@example.com"

    def test_config_vars_are_told_by_name_and_never_by_value(self, api: Api, shop: App) -> None:
        webhook(shop, *Kind)
        config_vars.change_config(shop, shop.owner, {"PASSWORD": "open-sesame"}, NOW)
        (event,) = self.events("api:release")
        assert event["data"]["description"] == "Set PASSWORD config vars"
        assert "open-sesame" not in json.dumps(event)
