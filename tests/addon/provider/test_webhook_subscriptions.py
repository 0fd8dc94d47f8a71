"""Subscribing to a platform's webhooks: by itself, once each, with the secret that is checked."""

import uuid
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from addon.provider import provisioning
from addon.provider.models import Attachment, Callback, Grant, Resource
from billing.models import Plan
from tests.addon.provider.platforms import Platform
from tests.addon.provider.test_callbacks import (
    ALL,
    ATTACHMENT_CONFIG,
    PROVISION,
    TOKEN,
    drive_now,
    get,
    later,
    provision,
)
from tests.addon.rounds_in_turn import reconcile_provider as reconcile

LIST = "GET /addons/webhooks"
CREATE = "POST /addons/webhooks"
CHANGE = "PATCH /addons/webhooks"
ADDON = "GET /addons"
ATTACHMENTS = "GET /addons/addon-attachments"
SUBSCRIBED = [LIST, CREATE, ADDON, ATTACHMENTS]
WEBHOOK = {
    "include": ["api:addon", "api:addon-attachment", "api:app"],
    "level": "sync",
    "secret": "sesame",
    "url": "http://localhost:5000/heroku/webhooks",
}
AT = "2026-11-01T10:00:00Z"
SHOP = {"id": str(uuid.uuid4()), "name": "shop"}


@pytest.fixture(autouse=True)
def _takes_webhooks(platform: Platform, settings: Settings) -> None:
    settings.PROVIDER_WEBHOOK_SECRET = "sesame"


def knows(platform: Platform, resource: Resource, *subscribed: dict[str, Any]) -> None:
    """The platform answers what it has of the add-on."""
    addon = {"id": str(resource.id), "name": "our-embedder", "app": SHOP, "updated_at": AT}
    attachment = {
        "id": str(uuid.uuid4()), "name": "SEARCH", "app": SHOP, "addon": addon, "updated_at": AT,
    }  # fmt: skip
    platform.will(LIST, 200, [{"url": "https://elsewhere.example.com"}, *subscribed])
    platform.will(ADDON, 200, addon)
    platform.will(ATTACHMENTS, 200, [attachment])


def new(platform: Platform, **more: Any) -> Resource:
    """As Heroku provisions: no attachment is named."""
    resource = provision(platform, has_attachments=False, **more)
    knows(platform, resource)
    return resource


class TestANewAddon:
    def test_is_subscribed_after_its_grant_and_its_names_are_asked_for(
        self, platform: Platform
    ) -> None:
        resource = drive_now(new(platform))
        assert platform.made() == [TOKEN, *SUBSCRIBED]
        assert platform.calls[2].body == WEBHOOK
        assert platform.calls[2].authorization == "Bearer access-1"
        assert (resource.name, resource.app_name) == ("our-embedder", "shop")
        assert str(resource.app_id) == SHOP["id"]
        assert sorted(map(str, Attachment.objects.all())) == ["shop::SEARCH", "shop::SEARCH"]
        assert resource.next_attempt_at is None
        reconcile(later(hours=1))
        assert len(platform.calls) == 5

    def test_is_first_made_and_then_subscribed(self, platform: Platform) -> None:
        Plan.objects.update(async_operations=ALL)
        resource = provision(platform)
        knows(platform, resource)
        drive_now(resource)
        assert platform.made() == [TOKEN, ATTACHMENT_CONFIG, PROVISION, *SUBSCRIBED]

    def test_is_subscribed_later_where_that_fails_and_nothing_waits_for_it(
        self, platform: Platform
    ) -> None:
        resource = new(platform)
        platform.will(LIST, 500)
        assert drive_now(resource).last_error == "the platform answered 500"
        Plan.objects.update(async_operations=ALL)
        provisioning.change_plan(resource.id, "cohere-embed-multilingual", timezone.now())
        drive_now(resource)
        assert platform.made()[-3:] == ["PATCH /addons/config", PROVISION, LIST]
        knows(platform, resource)
        reconcile(later(minutes=1))
        assert platform.made()[-4:] == SUBSCRIBED
        assert get(resource.id).next_attempt_at is None

    def test_is_subscribed_once_though_what_follows_fails(self, platform: Platform) -> None:
        resource = new(platform)
        platform.will(ADDON, 500)
        drive_now(resource)
        knows(platform, resource, WEBHOOK)
        reconcile(later(minutes=2))
        assert platform.made().count(CREATE) == 1
        assert get(resource.id).app_name == "shop"

    @pytest.mark.parametrize("status", [404, 410])
    def test_is_not_subscribed_where_there_is_nothing(
        self, platform: Platform, status: int
    ) -> None:
        resource = new(platform)
        platform.will(LIST, status)
        resource = drive_now(resource)
        assert (resource.next_attempt_at, resource.deprovisioned_at) == (None, None)
        assert [callback.outcome for callback in Callback.objects.all()] == ["gone"]
        assert Grant.objects.exists() == (status == 404)  # a 410 is about the add-on

    def test_is_tried_again_where_its_names_cannot_be_read(self, platform: Platform) -> None:
        resource = new(platform)
        platform.will(ADDON, 200, {"id": str(resource.id)})
        assert "data.name must be a string" in drive_now(resource).last_error

    def test_is_not_subscribed_without_a_secret(
        self, platform: Platform, settings: Settings
    ) -> None:
        settings.PROVIDER_WEBHOOK_SECRET = ""
        drive_now(new(platform))
        assert platform.made() == [TOKEN]

    def test_is_not_subscribed_when_it_is_gone(self, platform: Platform) -> None:
        resource = new(platform)
        platform.will(LIST, 500)
        drive_now(resource)
        provisioning.deprovision(resource.id, timezone.now())
        reconcile(later(minutes=1))
        assert platform.made() == [TOKEN, LIST]


class TestTheCommand:
    @staticmethod
    def subscribe() -> str:
        out = StringIO()
        call_command("subscribe_webhooks", stdout=out, stderr=out)
        return out.getvalue()

    def test_subscribes_every_addon(self, platform: Platform) -> None:
        resource = new(platform)
        assert self.subscribe() == f"{resource.id}: subscribed\n"
        (call,) = [call for call in platform.calls if call.what == CREATE]
        assert call.body == WEBHOOK

    def test_subscribes_none_twice(self, platform: Platform) -> None:
        knows(platform, provision(platform), WEBHOOK)
        assert self.subscribe() == ""
        assert CREATE not in platform.made()

    def test_includes_what_an_earlier_version_did_not(self, platform: Platform) -> None:
        resource = provision(platform)
        known = {**WEBHOOK, "id": str(uuid.uuid4()), "include": ["api:addon"]}
        knows(platform, resource, known)
        assert self.subscribe() == f"{resource.id}: subscribed\n"
        assert [call.body for call in platform.calls if call.what == CHANGE] == [WEBHOOK]

    def test_leaves_out_what_is_deprovisioned(self, platform: Platform) -> None:
        provisioning.deprovision(provision(platform).id, later()())
        assert self.subscribe() == ""

    def test_says_a_failure_which_stops_no_other(self, platform: Platform) -> None:
        mute = provision(platform, code=None)
        resource = new(platform)
        out = StringIO()
        with pytest.raises(CommandError, match="1 of them"):
            call_command("subscribe_webhooks", stdout=out, stderr=out)
        assert f"{mute.id}: The platform sent no grant" in out.getvalue()
        assert f"{resource.id}: subscribed" in out.getvalue()

    def test_says_where_a_platform_has_no_such_webhooks(self, platform: Platform) -> None:
        provision(platform)
        platform.will(LIST, 404)
        out = StringIO()
        with pytest.raises(CommandError):
            call_command("subscribe_webhooks", stdout=out, stderr=out)
        assert "has no webhooks of add-ons" in out.getvalue()

    def test_subscribes_nothing_without_a_secret(
        self, platform: Platform, settings: Settings
    ) -> None:
        settings.PROVIDER_WEBHOOK_SECRET = ""
        with pytest.raises(CommandError, match="PROVIDER_WEBHOOK_SECRET"):
            self.subscribe()
