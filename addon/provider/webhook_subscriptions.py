"""Subscribing to a platform's webhooks, add-on by add-on, as Heroku has it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from addon.provider import addon_info, platform_client
from addon.provider.grants import NoGrant
from addon.provider.models import Resource
from addon.provider.platform_client import PlatformGone, PlatformUnavailable, UnknownPlatform
from addon.provider.webhooks import NoWebhooks

PATH = "/heroku/webhooks"
INCLUDED = ("api:addon", "api:addon-attachment")

Clock = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """`failure` is empty where the resource is subscribed, `is_new` or from before."""

    resource_id: UUID
    is_new: bool = False
    failure: str = ""


def subscribe_all(clock: Clock) -> Iterator[Subscription]:
    """Every resource that is provisioned; safe to call again. Raises NoWebhooks."""
    if not settings.PROVIDER_WEBHOOK_SECRET:
        raise NoWebhooks
    live = Resource.objects.filter(deprovisioned_at=None).order_by("created_at", "id")
    for resource in list(live):
        yield _subscribe(resource, clock)


def _subscribe(resource: Resource, clock: Clock) -> Subscription:
    try:
        if _is_subscribed(resource, clock):
            return Subscription(resource_id=resource.id)
        addon_info.with_access(resource, clock, _create)
    except PlatformGone:  # or it has the add-on no more: the reconciler finds that out
        failure = "its platform has no webhooks of add-ons"
        return Subscription(resource_id=resource.id, failure=failure)
    except (NoGrant, UnknownPlatform, PlatformUnavailable) as error:
        return Subscription(resource_id=resource.id, failure=str(error))
    return Subscription(resource_id=resource.id, is_new=True)


def _is_subscribed(resource: Resource, clock: Clock) -> bool:
    webhooks = addon_info.with_access(resource, clock, platform_client.get_webhooks)
    return any(webhook.get("url") == _url() for webhook in webhooks)


def _create(resource: Resource, token: str) -> None:
    webhook: dict[str, object] = {
        "include": list(INCLUDED),
        "level": "sync",
        "secret": settings.PROVIDER_WEBHOOK_SECRET,
        "url": _url(),
    }
    platform_client.create_webhook(resource, token, webhook)


def _url() -> str:
    return f"{settings.PUBLIC_URL}{PATH}"
