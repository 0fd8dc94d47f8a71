"""Subscribing to a platform's webhooks: once each, with the secret that is checked."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from addon.provider import provisioning
from tests.addon.provider.platforms import Platform
from tests.addon.provider.test_callbacks import later, provision

LIST = "GET /addons/webhooks"
CREATE = "POST /addons/webhooks"


def subscribe() -> str:
    out = StringIO()
    call_command("subscribe_webhooks", stdout=out, stderr=out)
    return out.getvalue()


def test_every_addon_is_subscribed_with_the_secret_that_is_checked(
    platform: Platform, settings: Settings
) -> None:
    resource = provision(platform)
    platform.will(LIST, 200, [{"url": "https://elsewhere.example.com"}])
    assert subscribe() == f"{resource.id}: subscribed\n"
    (call,) = [call for call in platform.calls if call.what == CREATE]
    assert call.body == {
        "include": ["api:addon", "api:addon-attachment"],
        "level": "sync",
        "secret": settings.PROVIDER_WEBHOOK_SECRET,
        "url": "http://localhost:5000/heroku/webhooks",
    }


def test_one_that_is_subscribed_is_not_subscribed_again(platform: Platform) -> None:
    provision(platform)
    platform.will(LIST, 200, [{"url": "http://localhost:5000/heroku/webhooks"}])
    assert subscribe() == ""
    assert CREATE not in platform.made()


def test_what_is_deprovisioned_is_left_out(platform: Platform) -> None:
    provisioning.deprovision(provision(platform).id, later()())
    assert subscribe() == ""


def test_a_failure_is_said_and_stops_no_other(platform: Platform) -> None:
    mute = provision(platform, code=None)
    resource = provision(platform)
    platform.will(LIST, 200, [])
    out = StringIO()
    with pytest.raises(CommandError, match="1 of them"):
        call_command("subscribe_webhooks", stdout=out, stderr=out)
    assert f"{mute.id}: The platform sent no grant" in out.getvalue()
    assert f"{resource.id}: subscribed" in out.getvalue()


def test_a_platform_without_such_webhooks_is_said_so(platform: Platform) -> None:
    provision(platform)
    platform.will(LIST, 404)
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("subscribe_webhooks", stdout=out, stderr=out)
    assert "has no webhooks of add-ons" in out.getvalue()


def test_without_a_secret_nothing_is_subscribed(platform: Platform, settings: Settings) -> None:
    settings.PROVIDER_WEBHOOK_SECRET = ""
    with pytest.raises(CommandError, match="PROVIDER_WEBHOOK_SECRET"):
        subscribe()
