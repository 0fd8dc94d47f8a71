"""Request bodies of the Platform API, read once into values. Errors name the field."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from addon.json_api import InvalidField, Json, find_text, read_object, read_options, read_text
from addon.platform.aliases import Wish
from addon.platform.heroku_apps import STACKS, NewApp

OVERLAPS_S = range(7 * 86_400 + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class AddonBody:
    plan: str
    name: str | None
    wish: Wish
    options: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class AddonChange:
    """At least one of the two."""

    name: str | None
    plan: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachmentBody:
    addon: str
    app: str
    wish: Wish


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolveBody:
    identity: str
    app: str | None
    service: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RotationBody:
    """Of every attachment of the add-on, where none is named."""

    attachment: str | None
    overlap_s: int | None


def read_new_app(data: object, new_id: UUID) -> NewApp:
    body = read_object(data)
    return NewApp(
        id=new_id,
        name=find_text(body, "name"),
        region=_find_reference(body, "region") or "us",
        stack=_find_reference(body, "stack") or STACKS[0],
    )


def read_addon(data: object) -> AddonBody:
    body = read_object(data)
    attachment = body.get("attachment") or {}
    if not isinstance(attachment, Mapping):
        raise InvalidField('attachment must be an object like {"name": "EMBEDDING"}')
    wish = Wish(alias=find_text(attachment, "name"), confirm=find_text(body, "confirm"))
    return AddonBody(
        plan=_read_reference(body, "plan"),
        name=find_text(body, "name"),
        wish=wish,
        options=read_options(body, "config"),
    )


def read_addon_change(data: object) -> AddonChange:
    body = read_object(data)
    # Terraform renames with an empty plan.
    name, plan = find_text(body, "name"), _find_reference(body, "plan") or None
    if name is None and plan is None:
        raise InvalidField("name or plan must be given, or both: what is to change")
    return AddonChange(name=name, plan=plan)


def read_app_change(data: object) -> str | None:
    """The new name, if one is wanted. What an app without dynos cannot have is refused."""
    body = read_object(data)
    if body.get("maintenance"):
        raise InvalidField("maintenance must be false: no dynos run here")
    stack = _find_reference(body, "build_stack")
    if stack is not None and stack not in STACKS:
        raise InvalidField(f"build_stack must be one of: {', '.join(STACKS)}")
    return find_text(body, "name")


def read_release(data: object) -> str:
    """What the release to roll back to is called."""
    return read_text(read_object(data), "release")


def read_attachment(data: object, new_id: UUID) -> AttachmentBody:
    body = read_object(data)
    if body.get("namespace") is not None:
        raise InvalidField("namespace must be absent: this add-on has no named credentials")
    wish = Wish(id=new_id, alias=find_text(body, "name"), confirm=find_text(body, "confirm"))
    return AttachmentBody(
        addon=_read_reference(body, "addon"), app=_read_reference(body, "app"), wish=wish
    )


def read_resolve(data: object, field: str) -> ResolveBody:
    body = read_object(data)
    return ResolveBody(
        identity=_read_reference(body, field),
        app=_find_reference(body, "app"),
        service=_find_reference(body, "addon_service"),
    )


def read_rotation(data: object) -> RotationBody:
    body = read_object(data)
    overlap_s = body.get("overlap_s")
    if overlap_s is not None and (type(overlap_s) is not int or overlap_s not in OVERLAPS_S):
        raise InvalidField(f"overlap_s must be 0 to {OVERLAPS_S[-1]} seconds, or absent")
    return RotationBody(attachment=_find_reference(body, "attachment"), overlap_s=overlap_s)


def read_force(data: object) -> bool:
    force = read_object(data).get("force", False)
    if force is not None and not isinstance(force, bool):
        raise InvalidField("force must be true or false")
    return bool(force)


def read_config_changes(data: object) -> dict[str, str | None]:
    changes: dict[str, str | None] = {}
    for name, value in read_object(data).items():
        if value is not None and not isinstance(value, str):
            raise InvalidField(
                f"The value of {name[:256]} must be a string, or null to unset the config var"
            )
        changes[name] = value
    return changes


def _read_reference(body: Json, field: str) -> str:
    reference = _find_reference(body, field)
    if not reference:
        raise InvalidField(
            f'{field} must be given as a name or an id: "…", {{"name": "…"}} or {{"id": "…"}}'
        )
    return reference


def _find_reference(body: Json, field: str) -> str | None:
    """What is called by a string, by {"name"} or by {"id"}."""
    value = body.get(field)
    if isinstance(value, Mapping):
        return find_text(value, "id") or find_text(value, "name")
    return find_text(body, field)
