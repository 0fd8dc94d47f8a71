"""What the platform says of a resource now: its name, its app, its attachments.

A provision request has only what never changes; the rest is asked for when it is needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from addon.json_api import find_uuid
from addon.provider import grants, platform_client
from addon.provider.models import Resource
from addon.provider.platform_client import AccessRefused, PlatformUnavailable

Clock = Callable[[], datetime]
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class AddonInfo:
    """`app_id` and `app_name` are of the app that owns the add-on and pays for it."""

    id: UUID
    name: str
    state: str
    plan_name: str
    app_id: UUID
    app_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachmentInfo:
    id: UUID
    name: str
    app_id: UUID
    app_name: str
    log_input_url: str = field(repr=False)


def get_addon_info(resource: Resource, clock: Clock) -> AddonInfo:
    """One call. Not within a transaction.

    Raises NoGrant, UnknownPlatform, PlatformGone, PlatformUnavailable.
    """
    body = with_access(resource, clock, platform_client.get_addon)
    app, plan = _object(body, "app"), _object(body, "plan")
    return AddonInfo(
        id=_uuid(body, "id"),
        name=_text(body, "name"),
        state=_text(body, "state"),
        plan_name=_text(plan, "name"),
        app_id=_uuid(app, "id"),
        app_name=_text(app, "name"),
    )


def get_attachments_info(resource: Resource, clock: Clock) -> list[AttachmentInfo]:
    """One call; on every app. Not within a transaction.

    Raises NoGrant, UnknownPlatform, PlatformGone, PlatformUnavailable.
    """
    rows = with_access(resource, clock, platform_client.get_attachments)
    return [_attachment(row) for row in rows]


def _attachment(row: Mapping[str, object]) -> AttachmentInfo:
    app, log_input_url = _object(row, "app"), row.get("log_input_url")
    return AttachmentInfo(
        id=_uuid(row, "id"),
        name=_text(row, "name"),
        app_id=_uuid(app, "id"),
        app_name=_text(app, "name"),
        log_input_url=log_input_url if isinstance(log_input_url, str) else "",
    )


def with_access(resource: Resource, clock: Clock, ask: Callable[[Resource, str], _T]) -> _T:
    """`ask` with an access token, and with another one if the first is not taken.

    Raises NoGrant, UnknownPlatform, PlatformGone, PlatformUnavailable.
    """
    try:
        return ask(resource, grants.access_token(resource, clock))
    except AccessRefused:
        grants.forget_access(resource.id)
        return ask(resource, grants.access_token(resource, clock))


def _object(body: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = body.get(name)
    if not isinstance(value, Mapping):
        raise PlatformUnavailable(f"the platform's answer has no {name}")
    return value


def _text(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise PlatformUnavailable(f"the platform's answer has no {name}")
    return value


def _uuid(body: Mapping[str, object], name: str) -> UUID:
    found = find_uuid(_text(body, name))
    if found is None:
        raise PlatformUnavailable(f"the platform's answer has no {name} that is a UUID")
    return found
