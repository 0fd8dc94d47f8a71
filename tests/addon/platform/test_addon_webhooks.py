"""Webhooks of an add-on: its provider's alone, and told of what is about the add-on."""

from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from addon.platform.models import (
    AddonService,
    App,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
)
from addon.platform.webhook_deliveries import (
    KEPT,
    _is_trusted,
    _owner_id,
    deliver_webhooks,
    prune_webhooks,
)
from addon.platform.webhooks import WEBHOOKS_MAX
from addon.provider.deliveries import drive
from addon.provider.models import Resource
from tests.addon.platform.helpers import Api, only_addon, partner_api

URL = "https://hooks.example.com/partner"
INCLUDE = ["api:addon", "api:addon-attachment", "api:app", "api:collaborator"]
BODY = {"include": INCLUDE, "level": "sync", "url": URL}
PATH = "/addons/my-db/webhooks"


@pytest.fixture
def partner(api: Api, shop: App, bad_provider: Any) -> Api:
    """Of the add-on my-db; as its provider calls."""
    api.add("shop", "DB", plan="fast-db", name="my-db")
    return partner_api(bad_provider)


@pytest.fixture
def webhook(partner: Api) -> dict[str, Any]:
    answer = partner.post(PATH, BODY)
    assert answer.status_code == 201, answer.content
    made: dict[str, Any] = answer.json()
    return made


def told() -> list[str]:
    """What the provider was told, in its order."""
    of_addons = WebhookDelivery.objects.exclude(webhook__addon=None).order_by("seq")
    return [str(delivery.event) for delivery in of_addons.select_related("event")]


class TestTheProvider:
    def test_makes_changes_and_removes_them(self, partner: Api) -> None:
        answer = partner.post(PATH, BODY)
        webhook = answer.json()
        addon = only_addon()
        assert webhook == {
            "addon": {"id": str(addon.id), "name": "my-db"},
            "created_at": webhook["created_at"],
            "id": webhook["id"],
            "include": INCLUDE,
            "level": "sync",
            "updated_at": webhook["created_at"],
            "url": URL,
        }
        assert len(bytes.fromhex(answer["Heroku-Webhook-Secret"])) == 32
        assert partner.get(PATH).json() == [webhook]
        one = f"/addons/{addon.id}/webhooks/{webhook['id']}"
        assert partner.get(one).json() == webhook
        assert partner.patch(one, {"level": "notify"}).json()["level"] == "notify"
        assert partner.delete(one).status_code == 200
        assert partner.get(one).status_code == 404
        assert partner.get(PATH).json() == []

    def test_makes_one_by_a_request_that_is_sent_twice(self, partner: Api) -> None:
        headers = {"Request-Id": "0c0e6b0e-7a1b-4d9f-9e3c-0f4f8d3b2a11"}
        for _ in range(2):
            assert partner.call("POST", PATH, BODY, **headers).status_code == 201
        assert Webhook.objects.count() == 1

    def test_is_refused_what_the_app_keeps_to_itself(self, partner: Api) -> None:
        for kind in ("api:release", "api:build", "api:dyno", "api:formation", "api:nosuch"):
            answer = partner.post(PATH, {**BODY, "include": [kind]})
            assert answer.status_code == 422, kind
            assert (
                "include must be a list of one or more of: api:addon," in answer.json()["message"]
            )

    def test_has_a_limited_number(self, partner: Api) -> None:
        for _ in range(WEBHOOKS_MAX):
            assert partner.post(PATH, BODY).status_code == 201
        answer = partner.post(PATH, BODY)
        assert answer.status_code == 422
        assert "The add-on my-db has 20 webhooks" in answer.json()["message"]

    def test_sees_what_was_delivered(self, api: Api, partner: Api, webhook: Any) -> None:
        api.patch("/apps/shop/addons/my-db", {"name": "our-db"})
        (event,) = partner.get("/addons/our-db/webhook-events").json()
        assert event["payload"]["data"]["name"] == "our-db"
        assert event["payload"]["previous_data"] == {"name": "my-db"}
        assert partner.get(f"/addons/our-db/webhook-events/{event['id']}").json() == event
        path = "/addons/our-db/webhook-deliveries"
        (delivery,) = partner.get(path).json()
        assert delivery["webhook"] == {"id": webhook["id"], "level": "sync"}
        assert partner.get(f"{path}/{delivery['id']}").json() == delivery
        assert partner.get(f"{path}?eq[status]=failed").json() == []

    def test_has_none_any_more_of_what_is_gone(self, api: Api, partner: Api, webhook: Any) -> None:
        api.delete("/apps/shop/addons/my-db")
        assert partner.get(PATH).status_code == 410
        assert told()[-1] == "api:addon destroy"
        prune_webhooks(only_addon().updated_at + KEPT)
        assert Webhook.objects.exists()
        prune_webhooks(only_addon().updated_at + 2 * KEPT)
        assert not Webhook.objects.exists()


class TestTheOwner:
    def test_neither_sees_nor_changes_them(self, api: Api, webhook: Any) -> None:
        assert api.get("/apps/shop/webhooks").json() == []
        assert api.get(f"/apps/shop/webhooks/{webhook['id']}").status_code == 404
        assert api.delete(f"/apps/shop/webhooks/{webhook['id']}").status_code == 404
        api.patch("/apps/shop/addons/my-db", {"name": "our-db"})
        assert api.get("/apps/shop/webhook-deliveries").json() == []
        for path in ("webhooks", f"webhooks/{webhook['id']}", "webhook-events"):
            assert api.get(f"/addons/our-db/{path}").status_code == 403
        assert api.post("/addons/our-db/webhooks", BODY).status_code == 403

    def test_has_webhooks_that_the_provider_does_not_see(self, api: Api, partner: Api) -> None:
        own = api.post("/apps/shop/webhooks", {**BODY, "url": "https://own.example.com"}).json()
        assert partner.get(PATH).json() == []
        assert partner.get(f"{PATH}/{own['id']}").status_code == 404
        assert partner.get("/apps/shop/webhooks").status_code == 403
        assert partner.post("/apps/shop/webhooks", BODY).status_code == 403
        api.patch("/apps/shop/addons/my-db", {"name": "our-db"})
        assert partner.get("/addons/our-db/webhook-events").json() == []
        assert partner.get("/addons/our-db/webhook-deliveries").json() == []


class TestToldIs:
    @pytest.fixture(autouse=True)
    def _subscribed(self, webhook: Any, blog: App) -> None:
        """To my-db on shop."""

    def test_what_becomes_of_the_addon_and_its_attachments(self, api: Api) -> None:
        api.attach("my-db", "blog", "SHARED")
        api.patch("/apps/shop/addons/my-db", {"name": "our-db"})
        attachment = api.get("/apps/blog/addon-attachments/SHARED").json()
        api.delete(f"/addon-attachments/{attachment['id']}")
        assert told() == [
            "api:addon-attachment create", "api:addon update", "api:addon-attachment destroy",
        ]  # fmt: skip

    def test_what_its_apps_are_called_and_who_works_on_them(self, api: Api, stranger: Api) -> None:
        api.patch("/apps/blog", {"name": "not-yet"})
        api.attach("my-db", "not-yet", "SHARED")
        api.patch("/apps/not-yet", {"name": "blog-two"})
        api.patch("/apps/shop", {"name": "shop-two"})
        api.post("/apps/shop-two/collaborators", {"user": "stranger@example.com"})
        assert told() == [
            "api:addon-attachment create", "api:app update", "api:app update",
            "api:collaborator create",
        ]  # fmt: skip
        renamed = WebhookEvent.objects.filter(include="api:app").values_list("payload", flat=True)
        assert {row["data"]["name"] for row in renamed} == {"blog-two", "shop-two"}

    def test_nothing_of_others(self, api: Api) -> None:
        api.add("shop", "OTHER", plan="fast-db", name="other-db")
        api.patch("/apps/shop/addons/other-db", {"name": "other"})
        api.patch("/apps/shop/config-vars", {"SECRET": "x"})
        api.patch("/apps/blog", {"name": "blog-two"})
        assert told() == []
        assert not WebhookEvent.objects.exists()


def test_providers_take_no_place_of_the_apps_owner(api: Api, partner: Api, webhook: Any) -> None:
    addon = only_addon()
    api.post("/apps/shop/webhooks", BODY)
    theirs, own = Webhook.objects.get(addon=addon), Webhook.objects.get(addon=None)
    assert (_owner_id(theirs), _owner_id(own)) == (addon.service_id, addon.app.owner_id)


def test_only_the_providers_own_host_may_be_in_a_private_network(
    api: Api, partner: Api, webhook: Any
) -> None:
    addon = only_addon()
    base = addon.service.base_url  # at 127.0.0.1
    for url, on, is_trusted in (
        (f"{base}/hooks", addon, True),
        ("http://127.0.0.1:1/hooks", addon, False),
        (URL, addon, False),
        (f"{base}/hooks", None, False),
    ):
        assert _is_trusted(Webhook(app=addon.app, addon=on, url=url)) == is_trusted, url


def test_our_own_provider_subscribes_and_follows_what_is_renamed(
    provider: AddonService, live_server: LiveServer, api: Api, shop: App, settings: Settings
) -> None:
    settings.PUBLIC_URL = settings.PROVIDER_URL = live_server.url
    settings.PLATFORM_URLS = [live_server.url]
    api.add("shop", "EMBEDDING", name="before")
    resource = Resource.objects.get()
    drive(resource.id, timezone.now)
    assert Webhook.objects.get().url == f"{live_server.url}/heroku/webhooks"
    resource.refresh_from_db()
    assert (resource.name, resource.app_name) == ("before", "shop")
    api.patch("/apps/shop/addons/before", {"name": "after"})
    api.patch("/apps/shop", {"name": "store"})
    deliver_webhooks(timezone.now)
    resource.refresh_from_db()
    assert (resource.name, resource.app_name) == ("after", "store")
    assert str(resource.attachments.get()) == "store::EMBEDDING"
