"""Webhooks of a platform: what an add-on, its attachments and their apps are called by now.

They only ever rename, or list attachments that share the resource's key: what works and what is
paid for follows from the Partner API alone. A webhook may come twice, late, or not at all, so each
row remembers how new what it was told is, and older news are ignored.
"""

import base64
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from addon.json_api import Json, find_uuid, is_storable
from addon.provider.models import Attachment, Resource

BODY_MAX_BYTES = 1_000_000
ATTACHMENTS_MAX = 1_000  # of a resource
NAME_MAX_CHARACTERS = 256
APP_NAME_MAX_CHARACTERS = 64


class NoWebhooks(Exception):
    """PROVIDER_WEBHOOK_SECRET is not set."""


class WrongSignature(Exception):
    """It is not from the platform."""


class InvalidWebhook(Exception):
    """It is signed, and cannot be read all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What the platform says of an add-on or, with `attachment_id`, of an attachment of it, as it
    was `at`."""

    resource_id: UUID
    attachment_id: UUID | None
    name: str
    app_id: UUID | None
    app_name: str
    is_gone: bool
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class AppNews:
    """What the platform says that an app is called."""

    id: UUID
    name: str
    at: datetime


def check_signature(body: bytes, signature: str) -> None:
    """Raises NoWebhooks, WrongSignature."""
    secret = settings.PROVIDER_WEBHOOK_SECRET
    if not secret:
        raise NoWebhooks
    expected = base64.b64encode(hmac.digest(secret.encode(), body, "sha256"))
    if not hmac.compare_digest(expected, signature.encode(errors="replace")):
        raise WrongSignature


def read(body: bytes) -> News | AppNews | None:
    """None for what is about something else. Raises InvalidWebhook."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidWebhook("The body is not JSON") from None
    match event:
        case {"resource": "addon", "action": str(action), "data": dict(data)}:
            return read_addon(data, _gone_at(event, action))
        case {"resource": "addon-attachment", "action": str(action), "data": dict(data)}:
            return read_attachment(data, _gone_at(event, action))
        case {"resource": "app", "action": "update", "data": dict(data)}:
            return _read_app(data)
        case {"resource": "addon" | "addon-attachment"}:
            raise InvalidWebhook("The event must have an action, and data that is an object")
        case {"resource": str()}:
            return None
        case _:
            raise InvalidWebhook("The body must be an event with resource, action and data")


def _gone_at(event: Json, action: str) -> object:
    return event.get("created_at", "") if action == "destroy" else None


def read_addon(data: Json, gone_at: object = None) -> News:
    """From the add-on as the Platform API shows it. Raises InvalidWebhook."""
    return _news(data, _uuid(data.get("id"), "data.id"), None, gone_at)


def read_attachment(data: Json, gone_at: object = None) -> News:
    """Likewise. Raises InvalidWebhook."""
    addon = _object(data.get("addon"))
    resource_id = _uuid(addon.get("id"), "data.addon.id")
    return _news(data, resource_id, _uuid(data.get("id"), "data.id"), gone_at)


def _news(data: Json, resource_id: UUID, attachment_id: UUID | None, gone_at: object) -> News:
    app = _object(data.get("app"))
    return News(
        resource_id=resource_id,
        attachment_id=attachment_id,
        name=_text(data.get("name"), "data.name", NAME_MAX_CHARACTERS),
        app_id=None if "id" not in app else _uuid(app["id"], "data.app.id"),
        app_name=_text(app.get("name"), "data.app.name", APP_NAME_MAX_CHARACTERS),
        is_gone=gone_at is not None,
        at=_moment(data.get("updated_at") if gone_at is None else gone_at),
    )


def _read_app(data: Json) -> AppNews:
    return AppNews(
        id=_uuid(data.get("id"), "data.id"),
        name=_text(data.get("name"), "data.name", APP_NAME_MAX_CHARACTERS),
        at=_moment(data.get("updated_at")),
    )


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _uuid(value: object, field: str) -> UUID:
    found = find_uuid(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidWebhook(f"{field} must be a UUID")
    return found


def _text(value: object, field: str, max_characters: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= max_characters or not is_storable(value):
        raise InvalidWebhook(f"{field} must be a string of 1 to {max_characters} characters")
    return value


def _moment(value: object) -> datetime:
    try:
        found = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidWebhook("The event's times must be like 2026-11-01T10:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def apply(news: News | AppNews) -> None:
    """Safe to call twice, and in any order; nothing for what is not, or no more, provisioned."""
    with transaction.atomic():
        if isinstance(news, AppNews):
            _apply_to_app(news)
            return
        live = Resource.objects.select_for_update().filter(deprovisioned_at=None)
        resource = live.filter(id=news.resource_id).first()
        if resource is None:
            return
        if news.attachment_id is None:
            _apply_to_resource(resource, news)
        else:
            _apply_to_attachment(resource, news.attachment_id, news)


def _apply_to_resource(resource: Resource, news: News) -> None:
    # That it is gone is for the platform to say by the Partner API, with its password.
    if news.is_gone or _is_older(news, resource.told_at):
        return
    if resource.app_name != news.app_name:  # before the first news all that is known is nothing
        resource.attachments.filter(app_name=resource.app_name).update(app_name=news.app_name)
    resource.name, resource.told_at = news.name, news.at
    resource.app_id, resource.app_name = news.app_id, news.app_name
    resource.save(update_fields=["name", "app_id", "app_name", "told_at"])


def _apply_to_app(news: AppNews) -> None:
    """Of each resource and attachment on it that heard of its id."""
    on_app = Attachment.objects.filter(app_id=news.id)
    live = Resource.objects.select_for_update().filter(
        Q(app_id=news.id) | Q(id__in=on_app.values("resource_id")), deprovisioned_at=None
    )
    locked = [resource.id for resource in live.order_by("id").only("id")]
    own = Resource.objects.filter(app_id=news.id, id__in=locked)
    for rows in (own, on_app.filter(resource_id__in=locked, detached_at=None)):
        rows.exclude(told_at__gt=news.at).update(app_name=news.name, told_at=news.at)


def _apply_to_attachment(resource: Resource, attachment_id: UUID, news: News) -> None:
    holder = _holder(resource)
    attachment = Attachment.objects.filter(id=attachment_id).first()
    if attachment is None:
        if holder is not None and resource.attachments.count() < ATTACHMENTS_MAX:
            _create(resource, attachment_id, news)
    elif attachment.resource_id == resource.id:
        _update(attachment, news)
    if holder is not None:
        _name_as_the_first(holder, resource)


def _create(resource: Resource, attachment_id: UUID, news: News) -> None:
    """Also when it is gone already: what comes late must not bring it back."""
    Attachment.objects.create(
        id=attachment_id,
        resource=resource,
        name=news.name,
        app_id=news.app_id,
        app_name=news.app_name,
        shares_key=True,
        told_at=news.at,
        created_at=news.at,
        detached_at=news.at if news.is_gone else None,
    )


def _update(attachment: Attachment, news: News) -> None:
    if _is_older(news, attachment.told_at) or attachment.detached_at is not None:
        return
    if news.is_gone and not attachment.shares_key:
        return  # as of an add-on: keys are ended by the Partner API
    attachment.name, attachment.told_at = news.name, news.at
    attachment.app_id, attachment.app_name = news.app_id, news.app_name
    attachment.detached_at = news.at if news.is_gone else None
    attachment.save(update_fields=["name", "app_id", "app_name", "told_at", "detached_at"])


def _is_older(news: News, told_at: datetime | None) -> bool:
    return told_at is not None and news.at < told_at


def _holder(resource: Resource) -> Attachment | None:
    """The one that has the key, where all attachments share one."""
    return resource.attachments.filter(id=resource.id, detached_at=None).first()


def _name_as_the_first(holder: Attachment, resource: Resource) -> None:
    """Usage is metered by the key, so it is shown under the attachment that there was first."""
    sharing = resource.attachments.filter(shares_key=True, detached_at=None)
    first = sharing.order_by("created_at", "id").first()
    if first is not None and (first.name, first.app_name) != (holder.name, holder.app_name):
        holder.name, holder.app_id, holder.app_name = first.name, first.app_id, first.app_name
        holder.save(update_fields=["name", "app_id", "app_name"])
