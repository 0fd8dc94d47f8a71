"""Events: what changed on an app or an add-on that has webhooks, written in the transaction of the
change."""

import json
import uuid

from django.db import connection

from addon.json_api import iso
from addon.platform.addons import list_app_addons
from addon.platform.changes import Change
from addon.platform.collaborators import get_access
from addon.platform.models import (
    Addon,
    App,
    Attachment,
    Collaborator,
    DeliveryStatus,
    Release,
    WebhookDelivery,
    WebhookEvent,
)
from addon.platform.releases import Versions
from addon.platform.serializers import (
    Answer,
    actor_json,
    addon_json,
    app_json,
    attachment_json,
    release_json,
)
from addon.platform.tasks import due_soon
from addon.platform.team_serializers import access_json

VERSION = "application/vnd.heroku+json; version=3"


def record_change(change: Change, **_: object) -> None:
    """Receives changes.changed. Nothing is written where no webhook includes the change."""
    webhooks = _including(change)
    if not webhooks:
        return
    event = _create_event(change)
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(
            webhook_id=webhook_id,
            event=event,
            status=DeliveryStatus.PENDING,
            created_at=change.at,
            updated_at=change.at,
        )
        for webhook_id in webhooks
    )
    due_soon(webhooks, change.at)


def _including(change: Change) -> list[uuid.UUID]:
    """Which webhooks are told, by id.

    Until the transaction ends none of them is removed. A stronger lock, and so to say that they are
    due, would wait for others' transactions, and they perhaps for this one.
    """
    query = """
        SELECT id FROM platform_webhook WHERE include @> %s::jsonb
            AND (app_id = %s AND addon_id IS NULL OR addon_id = ANY(%s))
        ORDER BY id FOR KEY SHARE
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [json.dumps([change.kind]), change.app.id, _addon_ids(change)])
        return [webhook_id for (webhook_id,) in cursor.fetchall()]


def _addon_ids(change: Change) -> list[uuid.UUID]:
    """Whose providers may be told: of the add-on that it is about, or of those on the app."""
    match change.row:
        case Addon(id=addon_id) | Attachment(addon_id=addon_id):
            return [addon_id]
        case Release():  # its description says what the user calls config vars
            return []
        case _:
            on_the_app = list_app_addons(change.app).order_by()
            return list(on_the_app.values_list("id", flat=True))


def _create_event(change: Change) -> WebhookEvent:
    event_id = uuid.uuid4()
    return WebhookEvent.objects.create(
        id=event_id,
        app=change.app,
        include=change.kind,
        action=change.action,
        payload=_payload(change, event_id),
        created_at=change.at,
    )


def _payload(change: Change, event_id: uuid.UUID) -> Answer:
    at = iso(change.at)
    return {
        "action": change.action,
        "actor": actor_json(change.account),
        "created_at": at,
        "data": _data(change),
        "id": str(event_id),
        "previous_data": dict(change.previous),
        "published_at": at,
        "resource": change.kind.removeprefix("api:"),
        "sequence": None,
        "updated_at": at,
        "version": VERSION,
    }


def _data(change: Change) -> Answer:
    """The row, as the app's owner sees it by the Platform API."""
    match change.row:
        case App() as app:
            return app_json(app)
        case Addon() as addon:
            return addon_json(addon, change.app.owner, change.at)
        case Attachment() as attachment:
            return attachment_json(attachment)
        case Collaborator() as collaborator:
            return access_json(get_access(change.app, str(collaborator.account_id)))
        case Release() as release:
            newest = release.version
            return release_json(release, Versions(current=newest, oldest_kept=newest))
        case row:
            raise TypeError(f"webhooks have no {type(row).__name__}")
