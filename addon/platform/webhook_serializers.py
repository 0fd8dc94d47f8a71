"""Answers about webhooks, field by field as Heroku's schema has them. No secret is in any."""

from addon.json_api import iso, iso_or_none
from addon.platform.models import Webhook, WebhookDelivery, WebhookEvent
from addon.platform.serializers import Answer, app_stub

# Of the payload that is posted, what the schema has, and what `heroku webhooks:events` prints.
EVENT_PAYLOAD = (
    "action",
    "actor",
    "data",
    "previous_data",
    "published_at",
    "resource",
    "version",
)


def webhook_json(webhook: Webhook) -> Answer:
    addon = webhook.addon
    subject = (
        {"app": app_stub(webhook.app)} if addon is None
        else {"addon": {"id": str(addon.id), "name": addon.name}}
    )  # fmt: skip
    return {
        **subject,
        "created_at": iso(webhook.created_at),
        "id": str(webhook.id),
        "include": webhook.include,
        "level": webhook.level,
        "updated_at": iso(webhook.updated_at),
        "url": webhook.url,
    }


def delivery_json(delivery: WebhookDelivery) -> Answer:
    return {
        "created_at": iso(delivery.created_at),
        "event": {"id": str(delivery.event_id), "include": delivery.event.include},
        "id": str(delivery.id),
        "last_attempt": delivery.last_attempt,
        "next_attempt_at": iso_or_none(delivery.next_attempt_at),
        "num_attempts": delivery.attempts,
        "status": delivery.status,
        "updated_at": iso(delivery.updated_at),
        "webhook": {"id": str(delivery.webhook_id), "level": delivery.webhook.level},
    }


def event_json(event: WebhookEvent) -> Answer:
    return {
        "created_at": iso(event.created_at),
        "id": str(event.id),
        "include": event.include,
        "payload": {field: event.payload[field] for field in EVENT_PAYLOAD},
        "updated_at": iso(event.created_at),
    }
