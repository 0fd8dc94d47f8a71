"""Webhooks: where changes are posted to, which ones, and how hard to try.

They are on an app, for who may deploy it, or on an add-on, for its provider."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx
from django.db import transaction
from django.db.models import QuerySet

from addon.json_api import find_uuid
from addon.platform.heroku_apps import lock_app
from addon.platform.models import Addon, App, Webhook, WebhookDelivery, WebhookEvent
from addon.platform.tasks import due_soon

# Heroku's; of some nothing ever happens here, see docs/webhooks.md.
INCLUDES = (
    "api:addon",
    "api:addon-attachment",
    "api:app",
    "api:build",
    "api:collaborator",
    "api:domain",
    "api:dyno",
    "api:formation",
    "api:release",
    "api:sni-endpoint",
    "api:ssl-endpoint",
)
# What a provider is told of the app is not what its owner puts there: at Heroku that takes a
# permission of its own.
INCLUDES_OF_AN_ADDON = tuple(
    kind
    for kind in INCLUDES
    if kind not in ("api:build", "api:dyno", "api:formation", "api:release")
)
LEVELS = ("notify", "sync")
WEBHOOKS_MAX = 20  # of an app, or of an add-on
SECRET_BYTES = 32


class WebhookNotFound(Exception):
    pass


class WebhookDeliveryNotFound(Exception):
    pass


class WebhookEventNotFound(Exception):
    pass


class TooManyWebhooks(Exception):
    def __init__(self, subject: "Subject") -> None:
        super().__init__(
            f"{subject} has {WEBHOOKS_MAX} webhooks, and cannot have more. Remove one "
            + ("with `heroku webhooks:remove`" if subject.addon is None else "by DELETE")
        )


class AuthorizationMissing(Exception):
    """What one host is shown is not shown to another because somebody changed the URL."""

    def __init__(self) -> None:
        super().__init__(
            "authorization must be given again with a url of another host, or null: the one that "
            "the webhook has is sent to its present host only"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What webhooks are on: an app, or one of its add-ons."""

    app: App
    addon: Addon | None = None

    def __str__(self) -> str:
        return f"The app {self.app}" if self.addon is None else f"The add-on {self.addon}"

    def webhooks(self) -> QuerySet[Webhook]:
        return Webhook.objects.filter(app=self.app, addon=self.addon)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewWebhook:
    """`secret` is None when one is to be made."""

    include: Sequence[str]
    level: str
    url: str
    secret: str | None
    authorization: str


def create_webhook(
    subject: Subject, wanted: NewWebhook, webhook_id: UUID, now: datetime
) -> Webhook:
    """A webhook under `webhook_id`: the one that is there when it was made before.

    Raises TooManyWebhooks, AppNotFound.
    """
    with transaction.atomic():
        lock_app(subject.app.id)
        made = subject.webhooks().filter(id=webhook_id).first()
        if made is not None:
            return made
        if subject.webhooks().count() >= WEBHOOKS_MAX:
            raise TooManyWebhooks(subject)
        return Webhook.objects.create(
            id=webhook_id,
            app=subject.app,
            addon=subject.addon,
            url=wanted.url,
            include=list(wanted.include),
            level=wanted.level,
            secret=wanted.secret or secrets.token_hex(SECRET_BYTES),
            authorization=wanted.authorization,
            created_at=now,
            updated_at=now,
        )


def secret_to_tell(webhook: Webhook, wanted: NewWebhook) -> str | None:
    """The secret, when it was made here and for this request, be it a repeated one."""
    is_as_made = webhook.updated_at == webhook.created_at
    return webhook.secret if wanted.secret is None and is_as_made else None


def change_webhook(webhook: Webhook, changes: Mapping[str, object], now: datetime) -> Webhook:
    """Give it other fields; a delivery that waits for a retry is tried at once.

    Raises AuthorizationMissing, and WebhookNotFound when it was removed meanwhile.
    """
    with transaction.atomic():
        locked = _lock(webhook, no_key=True)
        if locked.authorization and "authorization" not in changes:
            _require_same_host(locked.url, str(changes.get("url", locked.url)))
        for name, value in changes.items():
            setattr(locked, name, value)
        locked.updated_at = now
        # One that is being tried has none, so the lease of who tries it stays.
        if locked.deliveries.filter(next_attempt_at__gt=now).update(next_attempt_at=now):
            locked.next_attempt_at = None
            due_soon([locked.id], now)
        locked.save()
    return locked


def _require_same_host(before: str, after: str) -> None:
    old, new = httpx.URL(before), httpx.URL(after)
    if (old.scheme, old.netloc) != (new.scheme, new.netloc):
        raise AuthorizationMissing


def remove_webhook(webhook: Webhook) -> None:
    """With its deliveries; what is under way may still arrive. Raises WebhookNotFound."""
    with transaction.atomic():
        _lock(webhook).delete()


def _lock(webhook: Webhook, *, no_key: bool = False) -> Webhook:
    """Without `no_key`, once no transaction that tells it of a change is open."""
    locked = Webhook.objects.select_for_update(of=["self"], no_key=no_key).select_related(
        "app", "addon"
    )
    found = locked.filter(id=webhook.id).first()
    if found is None:
        raise WebhookNotFound("Couldn't find that webhook.")
    return found


def list_webhooks(subject: Subject) -> QuerySet[Webhook]:
    # Their secrets are for nobody to see, and so not even read.
    return subject.webhooks().defer("secret", "authorization").select_related("app", "addon")


def get_webhook(subject: Subject, identity: str) -> Webhook:
    """By id. Raises WebhookNotFound."""
    webhook_id = find_uuid(identity)
    found = list_webhooks(subject).filter(id=webhook_id).first() if webhook_id else None
    if found is None:
        raise WebhookNotFound("Couldn't find that webhook.")
    return found


def list_deliveries(subject: Subject, status: str | None = None) -> QuerySet[WebhookDelivery]:
    of_subject = WebhookDelivery.objects.filter(
        webhook__app=subject.app, webhook__addon=subject.addon
    )
    found = of_subject.select_related("webhook", "event")
    # What happened can be long, and the secrets are for nobody to see.
    found = found.defer("event__payload", "webhook__secret", "webhook__authorization")
    return found if status is None else found.filter(status=status)


def get_delivery(subject: Subject, identity: str) -> WebhookDelivery:
    """By id. Raises WebhookDeliveryNotFound."""
    delivery_id = find_uuid(identity)
    found = list_deliveries(subject).filter(id=delivery_id).first() if delivery_id else None
    if found is None:
        raise WebhookDeliveryNotFound("Couldn't find that webhook delivery.")
    return found


def list_events(subject: Subject) -> QuerySet[WebhookEvent]:
    """What happened on an app; of an add-on what its webhooks were told."""
    if subject.addon is None:
        return subject.app.webhook_events.all()
    told = WebhookDelivery.objects.filter(webhook__addon=subject.addon)
    return WebhookEvent.objects.filter(id__in=told.values("event_id"))


def get_event(subject: Subject, identity: str) -> WebhookEvent:
    """By id. Raises WebhookEventNotFound."""
    event_id = find_uuid(identity)
    found = list_events(subject).filter(id=event_id).first() if event_id else None
    if found is None:
        raise WebhookEventNotFound("Couldn't find that webhook event.")
    return found
