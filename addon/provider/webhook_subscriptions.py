"""Subscribing to a platform's webhooks, add-on by add-on, as Heroku has it.

New add-ons are subscribed by deliveries.py; those from before the secret was set, by a command.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from addon.provider import addon_info, platform_client, webhooks
from addon.provider.grants import NoGrant
from addon.provider.models import Resource
from addon.provider.platform_client import PlatformGone, PlatformUnavailable, UnknownPlatform
from addon.provider.webhooks import InvalidWebhook, NoWebhooks

PATH = "/heroku/webhooks"
INCLUDED = ("api:addon", "api:addon-attachment", "api:app")

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
        yield _try(resource, clock)


def _try(resource: Resource, clock: Clock) -> Subscription:
    try:
        is_new = addon_info.with_access(resource, clock, subscribe)
    except PlatformGone:  # or it has the add-on no more: the reconciler finds that out
        failure = "its platform has no webhooks of add-ons"
        return Subscription(resource_id=resource.id, failure=failure)
    except (NoGrant, UnknownPlatform, PlatformUnavailable) as error:
        return Subscription(resource_id=resource.id, failure=str(error))
    return Subscription(resource_id=resource.id, is_new=is_new)


def subscribe(resource: Resource, token: str) -> bool:
    """Be told what is renamed and attached from now on, and learn what there is; whether that is
    new. Safe to call again. Raises as platform_client does."""
    is_new = _ensure_webhook(resource, token)
    try:
        webhooks.apply(webhooks.read_addon(platform_client.get_addon(resource, token)))
        for row in platform_client.get_attachments(resource, token):
            webhooks.apply(webhooks.read_attachment(row))
    except InvalidWebhook as error:
        raise PlatformUnavailable(f"the platform's answer cannot be read: {error}") from None
    return is_new


def _ensure_webhook(resource: Resource, token: str) -> bool:
    """Whether it was made, or made to include more."""
    wanted: dict[str, object] = {
        "include": list(INCLUDED),
        "level": "sync",
        "secret": settings.PROVIDER_WEBHOOK_SECRET,
        "url": f"{settings.PROVIDER_URL}{PATH}",
    }
    known = platform_client.get_webhooks(resource, token)
    ours = next((webhook for webhook in known if webhook.get("url") == wanted["url"]), None)
    if ours is None:
        platform_client.create_webhook(resource, token, wanted)
    elif not _includes_all(ours):
        platform_client.change_webhook(resource, token, str(ours.get("id")), wanted)
    else:
        return False
    return True


def _includes_all(webhook: Mapping[str, object]) -> bool:
    include = webhook.get("include")
    return isinstance(include, list) and set(INCLUDED) <= set(include)
