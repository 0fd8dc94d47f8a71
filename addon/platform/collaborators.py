"""Who has access to an app: its owner, the members of its team, and collaborators."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from django.db import transaction

from addon.json_api import find_uuid
from addon.platform.access import (
    ALL,
    OF_A_ROLE,
    Forbidden,
    Permission,
    given_to,
    permissions_on,
    require,
)
from addon.platform.changes import Action, Change, Kind, announce
from addon.platform.heroku_apps import lock_app
from addon.platform.models import Account, App, Collaborator, TeamMember, TeamRole


class CollaboratorNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that collaborator.")


class AlreadyCollaborator(Exception):
    """The person has access to the app; the text says how."""


class NotACollaborator(Exception):
    """The person has access by something else that is not changed here; the text says by what."""


class NotOfATeam(Exception):
    """A collaborator of a person's app has no permissions that could be chosen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """One who has access to an app; `permissions` are said of a team's app only."""

    id: UUID
    app: App
    account: Account
    role: str  # owner, admin, member, viewer, collaborator
    permissions: frozenset[Permission]
    created_at: datetime
    updated_at: datetime


def list_access(app: App) -> Sequence[Access]:
    """The owner first, then the members of its team, then collaborators who are none."""
    rows = app.collaborators.select_related("account").order_by("created_at", "id")
    given = {row.account_id: row for row in rows}
    is_of_team = is_of_a_team(app)
    owner = Access(
        id=uuid5(app.id, str(app.owner_id)),
        app=app,
        account=app.owner,
        role="owner",
        permissions=ALL if is_of_team else frozenset(),
        created_at=app.created_at,
        updated_at=app.created_at,
    )
    # Of a person's app there are none.
    members = TeamMember.objects.filter(team__account_id=app.owner_id).select_related("account")
    of_members = [
        _of_member(app, member, given.pop(member.account_id, None))
        for member in members.order_by("created_at", "id")
    ]
    return [owner, *of_members, *(_of_collaborator(app, row) for row in given.values())]


def is_of_a_team(app: App) -> bool:
    return hasattr(app.owner, "team")


def _of_member(app: App, member: TeamMember, row: Collaborator | None) -> Access:
    more = frozenset() if row is None else given_to(row)
    return Access(
        id=uuid5(app.id, str(member.account_id)) if row is None else row.id,
        app=app,
        account=member.account,
        role=member.role,
        permissions=OF_A_ROLE[TeamRole(member.role)] | more,
        created_at=member.created_at,
        updated_at=member.updated_at,
    )


def _of_collaborator(app: App, row: Collaborator) -> Access:
    return Access(
        id=row.id,
        app=app,
        account=row.account,
        role="collaborator",
        permissions=given_to(row) if is_of_a_team(app) else frozenset(),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def get_access(app: App, identity: str) -> Access:
    """By id, or by the id or email of the account. Raises CollaboratorNotFound."""
    wanted = find_uuid(identity)
    for access in list_access(app):
        if wanted in {access.id, access.account.id}:
            return access
        if access.account.email.lower() == identity.lower():
            return access
    raise CollaboratorNotFound


@dataclass(frozen=True, kw_only=True, slots=True)
class Invitation:
    """`permissions` of None are those that a collaborator has otherwise."""

    id: UUID
    person: Account
    permissions: frozenset[Permission] | None = None


def add_collaborator(app: App, wanted: Invitation, by: Account, now: datetime) -> Access:
    """With the same id again it is the same collaborator.

    Raises Forbidden, NotOfATeam, AlreadyCollaborator, AppNotFound.
    """
    with transaction.atomic():
        lock_app(app.id)
        require(app, by, Permission.MANAGE)
        _refuse_more_than_own(app, by, wanted.permissions)
        found = Collaborator.objects.filter(app=app, account=wanted.person).first()
        if found is not None and found.id == wanted.id:
            return get_access(app, str(found.id))
        _refuse_second(app, wanted.person, found)
        row = Collaborator.objects.create(
            id=wanted.id,
            app=app,
            account=wanted.person,
            permissions=sorted(wanted.permissions or ()),
        )
        _announce("create", row, by, now)
    return get_access(app, str(row.id))


def _refuse_more_than_own(app: App, by: Account, permissions: frozenset[Permission] | None) -> None:
    """Nobody can give away, to himself through another, what he has not."""
    if permissions is None:
        return
    if not is_of_a_team(app):
        raise NotOfATeam(
            f"permissions can be chosen on an app of a team only; {app.name} is the app of "
            f"{app.owner.email}, whose collaborators may view and deploy"
        )
    lacking = permissions - permissions_on(app, by)
    if lacking:
        raise Forbidden(app, min(lacking), may_see=True)


def _refuse_second(app: App, person: Account, found: Collaborator | None) -> None:
    if person.id == app.owner_id:
        raise AlreadyCollaborator(f"{person.email} is the owner of the app {app.name}")
    if found is not None:
        raise AlreadyCollaborator(f"{person.email} is already a collaborator on the app {app.name}")


def change_permissions(
    app: App, identity: str, permissions: frozenset[Permission], by: Account, now: datetime
) -> Access:
    """Raises Forbidden, NotOfATeam, CollaboratorNotFound, NotACollaborator, AppNotFound."""
    with transaction.atomic():
        lock_app(app.id)
        require(app, by, Permission.MANAGE)
        _refuse_more_than_own(app, by, permissions)
        row = _get_row(app, identity)
        previous = list(row.permissions)
        row.permissions = sorted(permissions)
        row.save(update_fields=["permissions", "updated_at"])
        _announce("update", row, by, now, {"permissions": previous})
    return get_access(app, str(row.id))


def remove_collaborator(app: App, identity: str, by: Account, now: datetime) -> Access:
    """What it was. A collaborator may remove itself.

    Raises Forbidden, CollaboratorNotFound, NotACollaborator, AppNotFound.
    """
    with transaction.atomic():
        lock_app(app.id)
        removed = get_access(app, identity)
        if removed.account.id != by.id:
            require(app, by, Permission.MANAGE)
        row = _get_row(app, identity)
        _announce("destroy", row, by, now)
        Collaborator.objects.filter(id=row.id).delete()
    return removed


def _get_row(app: App, identity: str) -> Collaborator:
    access = get_access(app, identity)
    row = Collaborator.objects.filter(app=app, account=access.account)
    found = row.select_related("app__owner", "account").first()
    if found is not None:
        return found
    if access.role == "owner":
        raise NotACollaborator(f"{access.account.email} is the owner of the app {app.name}")
    team = app.owner.team.name
    raise NotACollaborator(
        f"{access.account.email} has access to the app {app.name} as {access.role} of the team "
        f"{team}. An admin changes that with `heroku members:set` and `heroku members:remove "
        f"{access.account.email} --team {team}`"
    )


def _announce(
    action: Action,
    row: Collaborator,
    by: Account,
    now: datetime,
    previous: dict[str, object] | None = None,
) -> None:
    announce(
        Change(
            kind=Kind.COLLABORATOR, action=action, app=row.app, row=row, account=by, at=now,
            previous=previous or {},
        )
    )  # fmt: skip
