"""What requests about teams and collaborators say, read once into values. Errors name the field."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from addon.json_api import InvalidField, Json, find_text, read_object, read_text
from addon.platform import bodies
from addon.platform.access import Permission
from addon.platform.heroku_apps import NewApp
from addon.platform.models import TeamRole

EMAIL_MAX = 254


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberBody:
    email: str
    role: TeamRole


@dataclass(frozen=True, kw_only=True, slots=True)
class TeamAppBody:
    team: str
    app: NewApp


def read_user(data: object) -> str:
    """The id or email of whoever shall have access. Nobody is written to, `silent` or not."""
    body = read_object(data)
    _read_flag(body, "silent")
    value = body.get("user")
    if isinstance(value, Mapping):
        user = find_text(value, "id", EMAIL_MAX) or find_text(value, "email", EMAIL_MAX)
    else:
        user = find_text(body, "user", EMAIL_MAX)
    if not user:
        raise InvalidField('user must be given by email or id: "…", {"email": "…"} or {"id": "…"}')
    return user


def find_permissions(data: object) -> frozenset[Permission] | None:
    """None when the body has none."""
    body = read_object(data)
    return None if body.get("permissions") is None else read_permissions(body)


def read_permissions(data: object) -> frozenset[Permission]:
    """Names, or objects with names. Who may do anything may view."""
    given = read_object(data).get("permissions")
    names = [_permission_name(value) for value in given] if isinstance(given, list) else []
    if not names or not set(names) <= set(Permission):
        allowed = ", ".join(Permission)
        raise InvalidField(f"permissions must be a list of some of: {allowed}")
    return frozenset(map(Permission, names)) | {Permission.VIEW}


def _permission_name(value: object) -> str:
    name = value.get("name") if isinstance(value, Mapping) else value
    return name if isinstance(name, str) else ""


def read_team_name(data: object) -> str:
    return read_text(read_object(data), "name", 30)


def read_team_change(data: object) -> str | None:
    """The new name, or None."""
    body = read_object(data)
    if _read_flag(body, "default"):
        raise InvalidField("default must be false or absent: there are no default teams here")
    return find_text(body, "name", 30)


def read_member(data: object) -> MemberBody:
    body = read_object(data)
    if _read_flag(body, "federated"):
        raise InvalidField("federated must be false or absent: there is no identity provider here")
    role = find_text(body, "role")
    if role is None or role not in set(TeamRole):
        raise InvalidField(f"role must be one of: {', '.join(TeamRole)}")
    return MemberBody(email=read_text(body, "email", EMAIL_MAX), role=TeamRole(role))


def read_team_app(data: object, app_id: UUID) -> TeamAppBody:
    body = read_object(data)
    for field in ("internal_routing", "locked", "personal"):
        if _read_flag(body, field):
            raise InvalidField(f"{field} must be false or absent: Annex does not have it")
    if body.get("space") is not None:
        raise InvalidField("space must be absent: there are no private spaces here")
    return TeamAppBody(team=read_text(body, "team", 64), app=bodies.read_new_app(data, app_id))


def _read_flag(body: Json, field: str) -> bool:
    value = body.get(field)
    if value is not None and not isinstance(value, bool):
        raise InvalidField(f"{field} must be true or false")
    return bool(value)
