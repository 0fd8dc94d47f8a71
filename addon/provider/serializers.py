"""Bodies of the Partner API: requests read into values, answers written from them.

Unknown fields are welcome, as the contract asks of a provider. Our own platform sends `attachment`;
Heroku does not, and its resource gets one attachment under the resource's own id.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings

from addon.json_api import (
    InvalidField,
    Json,
    find_text,
    iso,
    read_object,
    read_options,
    read_text,
    read_uuid,
)
from addon.provider.grants import OAuthGrant
from addon.provider.key_rotation import OVERLAP_MAX, Rotated
from addon.provider.manifest import CONFIG_VARS_PREFIX
from addon.provider.provisioning import (
    Accepted,
    AttachmentRequest,
    PlanChanged,
    Provisioned,
    ProvisionRequest,
)


def read_provision_request(data: object) -> ProvisionRequest:
    """Raises InvalidField, which names the field."""
    body = read_object(data)
    resource_id = read_uuid(body, "uuid")
    return ProvisionRequest(
        uuid=resource_id,
        name=find_text(body, "name", 256) or "",
        plan_slug=read_text(body, "plan", 100),
        region=find_text(body, "region", 100) or "",
        options=read_options(body, "options"),
        callback_url=find_text(body, "callback_url", 500) or "",
        log_input_url=find_text(body, "log_input_url") or "",
        log_drain_token=find_text(body, "log_drain_token") or "",
        oauth_grant=_find_grant(body),
        attachment=_first_attachment(body, resource_id),
    )


def _find_grant(body: Json) -> OAuthGrant | None:
    grant = body.get("oauth_grant")
    if grant is None:
        return None
    if not isinstance(grant, dict):
        raise InvalidField("oauth_grant must be an object with code and expires_at, or null")
    code, expires_at = read_text(grant, "code", 500), find_text(grant, "expires_at", 50)
    return OAuthGrant(code=code, expires_at=_find_time(expires_at))


def _find_time(text: str | None) -> datetime | None:
    """None for what is absent or no time: when a code expires is known without."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _first_attachment(body: Json, resource_id: UUID) -> AttachmentRequest:
    attachment = body.get("attachment")
    if attachment is None:
        return AttachmentRequest(id=resource_id, name=CONFIG_VARS_PREFIX, app_name="")
    if not isinstance(attachment, dict):
        raise InvalidField("attachment must be an object with id, name and app")
    return read_attachment_request(attachment, read_uuid(attachment, "id"))


def read_attachment_request(data: object, attachment_id: UUID) -> AttachmentRequest:
    """Raises InvalidField, which names the field."""
    body = read_object(data)
    return AttachmentRequest(
        id=attachment_id,
        name=read_text(body, "name", 256),
        app_name=read_text(body, "app", 64),
    )


def read_plan_slug(data: object) -> str:
    """Raises InvalidField, which names the field."""
    return read_text(read_object(data), "plan", 100)


def plan_changed_json(changed: PlanChanged) -> dict[str, object]:
    return {"config": dict(changed.config), "message": changed.message}


def provisioned_json(provisioned: Provisioned) -> dict[str, object]:
    return {
        "id": str(provisioned.resource_id),
        "config": dict(provisioned.config),
        "message": provisioned.message,
    }


def accepted_json(accepted: Accepted) -> dict[str, object]:
    """Without config, which the platform is told later."""
    return {"id": str(accepted.resource_id), "message": accepted.message}


@dataclass(frozen=True, kw_only=True, slots=True)
class RotationRequest:
    """Of every attachment, where none is named."""

    attachment_id: UUID | None
    overlap: timedelta


def read_rotation_request(data: object) -> RotationRequest:
    """Raises InvalidField, which names the field."""
    body = read_object(data)
    overlap_s = body.get("overlap_s", settings.KEY_OVERLAP_S)
    longest = int(OVERLAP_MAX.total_seconds())
    if type(overlap_s) is not int or not 0 <= overlap_s <= longest:
        raise InvalidField(f"overlap_s must be 0 to {longest} seconds, or absent")
    return RotationRequest(
        attachment_id=None if body.get("attachment") is None else read_uuid(body, "attachment"),
        overlap=timedelta(seconds=overlap_s),
    )


def rotated_json(resource_id: UUID, rotated: Iterable[Rotated]) -> dict[str, object]:
    """Without config, which the platform is told later."""
    return {
        "id": str(resource_id),
        "message": "The config vars follow",
        "attachments": [
            {"id": str(row.attachment_id), "old_keys_end_at": iso(row.expires_at)}
            for row in rotated
        ],
    }
