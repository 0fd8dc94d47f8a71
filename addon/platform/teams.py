"""Teams: people who own apps together, and who of them may do what for the team.

What a member may do with each of its apps is in access.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from addon.json_api import find_uuid, is_storable
from addon.platform import heroku_apps
from addon.platform.accounts import TEAM_DOMAIN, is_person
from addon.platform.heroku_apps import NewApp
from addon.platform.models import Account, App, Collaborator, Team, TeamMember, TeamRole
from billing.subscriptions import rename_customer

NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{1,28}[a-z0-9]")
# What paths have in the place of a team's name.
RESERVED_NAMES = frozenset({"apps", "invitations", "permissions"})
APPS_NAMED_MAX = 5

ADMINS = frozenset({TeamRole.ADMIN})
BUILDERS = frozenset({TeamRole.ADMIN, TeamRole.MEMBER})
EVERYBODY = frozenset(TeamRole)

EVERY = Q()


class TeamNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that team.")


class TeamForbidden(Exception):
    """The team may be seen, but only some of its members may do this."""

    def __init__(self, team: Team, roles: frozenset[TeamRole]) -> None:
        allowed = " or ".join(sorted(roles))
        super().__init__(f"You must have the role {allowed} in the team {team.name} to do this")


class InvalidTeam(Exception):
    """The name is not allowed; the text says what is."""


class TeamNameTaken(Exception):
    pass


class TeamHasApps(Exception):
    """A team is deleted only when all of its apps are destroyed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Membership:
    """How `account` stands to `team`: without a role it only collaborates on some of its apps."""

    team: Team
    account: Account
    role: TeamRole | None

    def require(self, roles: frozenset[TeamRole]) -> None:
        """Raises TeamForbidden."""
        if self.role not in roles:
            raise TeamForbidden(self.team, roles)


def create_team(name: str, admin: Account, team_id: UUID) -> Membership:
    """A team whose first admin is `admin`; with the same id again it is the same team.

    Raises InvalidTeam, TeamNameTaken.
    """
    _validate_name(name)
    made = _find_made(admin, team_id)
    if made is None:
        try:
            made = _insert(name, admin, team_id)
        except TeamNameTaken:
            made = _find_made(admin, team_id)  # by the same request, sent twice at once
            if made is None:
                raise
    return Membership(team=made, account=admin, role=TeamRole.ADMIN)


def _find_made(admin: Account, team_id: UUID) -> Team | None:
    return Team.objects.filter(id=team_id, members__account=admin).first()


def _validate_name(name: str) -> None:
    if not NAME_PATTERN.fullmatch(name) or name in RESERVED_NAMES:
        raise InvalidTeam(
            "name must start with a letter, end with a letter or digit and can only contain "
            "lowercase letters, digits, and dashes; 3 to 30 characters, and not "
            f"{' or '.join(sorted(RESERVED_NAMES))}"
        )


def _insert(name: str, admin: Account, team_id: UUID) -> Team:
    try:
        with transaction.atomic():
            account = Account.objects.create(email=_email(name), name=name)
            team = Team.objects.create(id=team_id, name=name, account=account)
            TeamMember.objects.create(team=team, account=admin, role=TeamRole.ADMIN)
    except IntegrityError:
        raise TeamNameTaken(f"Name {name} is already taken") from None
    return team


def _email(local_part: str) -> str:
    return f"{local_part}@{TEAM_DOMAIN}"


def list_memberships(account: Account, which: Q = EVERY) -> Sequence[Membership]:
    """The teams that `account` is a member of or collaborates with, by name."""
    roles = dict(TeamMember.objects.filter(account=account).values_list("team_id", "role"))
    shared = Collaborator.objects.filter(account=account, app__destroyed_at=None)
    teams = Team.objects.filter(
        Q(id__in=roles) | Q(account_id__in=shared.values("app__owner_id")), which
    )
    return [
        Membership(
            team=team,
            account=account,
            role=TeamRole(roles[team.id]) if team.id in roles else None,
        )
        for team in teams.select_related("account").order_by("name")
    ]


def get_membership(account: Account, identity: str) -> Membership:
    """By the team's name or id. Raises TeamNotFound for a team that `account` has no part in."""
    team_id = find_uuid(identity)
    if team_id is None and not is_storable(identity):
        raise TeamNotFound
    which = Q(name=identity) if team_id is None else Q(id=team_id)
    for membership in list_memberships(account, which):
        return membership
    raise TeamNotFound


def get_payer(account: Account, identity: str) -> Account:
    """The team's account, to admins, who answer for what it pays.

    Raises TeamNotFound, TeamForbidden.
    """
    membership = get_membership(account, identity)
    membership.require(ADMINS)
    return membership.team.account


def rename_team(membership: Membership, name: str) -> Membership:
    """Raises TeamForbidden, InvalidTeam, TeamNameTaken, TeamNotFound."""
    membership.require(ADMINS)
    _validate_name(name)
    try:
        with transaction.atomic():
            team = lock_team(membership.team.id)
            team.name = team.account.name = name
            team.account.email = _email(name)
            team.account.save(update_fields=["name", "email", "updated_at"])
            team.save(update_fields=["name", "updated_at"])
            bill_to_first_admin(team)
    except IntegrityError:
        raise TeamNameTaken(f"Name {name} is already taken") from None
    return Membership(team=team, account=membership.account, role=membership.role)


def delete_team(membership: Membership) -> None:
    """Its account stays, with the invoices and the releases of destroyed apps; its name is free.

    Raises TeamForbidden, TeamHasApps, TeamNotFound.
    """
    membership.require(ADMINS)
    with transaction.atomic():
        team = lock_team(membership.team.id)
        apps = App.objects.filter(owner=team.account, destroyed_at=None).order_by("name")
        names = list(apps.values_list("name", flat=True)[: APPS_NAMED_MAX + 1])
        if names:
            more = " and others" if len(names) > APPS_NAMED_MAX else ""
            raise TeamHasApps(
                f"The team {team.name} has the apps {', '.join(names[:APPS_NAMED_MAX])}{more}. "
                "Destroy them first with `heroku apps:destroy -a APP`"
            )
        team.delete()
        account = team.account
        account.email = _email(str(account.id))
        account.save(update_fields=["email", "updated_at"])


def lock_team(team_id: UUID) -> Team:
    """The team, locked until the transaction ends: its members, name and apps come and go under
    this lock. Raises TeamNotFound when it was deleted."""
    locked = Team.objects.select_for_update(of=("self",)).select_related("account")
    team = locked.filter(id=team_id).first()
    if team is None:
        raise TeamNotFound
    return team


def create_team_app(membership: Membership, wanted: NewApp, now: datetime) -> App:
    """Raises TeamForbidden, TeamNotFound, and what heroku_apps.create_app() raises."""
    membership.require(BUILDERS)
    with transaction.atomic():
        team = lock_team(membership.team.id)
        return heroku_apps.create_app(team.account, wanted, now, by=membership.account)


def billing_email(owner: Account) -> str:
    """Where an owner's invoices go: a team's to its first admin, for nobody reads its own."""
    if is_person(owner.email):
        return owner.email
    admins = TeamMember.objects.filter(team__account=owner, role=TeamRole.ADMIN)
    first = admins.order_by("created_at", "id").values_list("account__email", flat=True).first()
    return first or owner.email


def bill_to_first_admin(team: Team) -> None:
    """To be called when members or the name have changed."""
    rename_customer(team.account_id, email=billing_email(team.account), name=team.name)
