"""Members of teams: added, given another role and removed by admins, of whom one always stays."""

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from addon.json_api import find_uuid, is_storable
from addon.platform.changes import Change, Kind, announce
from addon.platform.models import Account, Collaborator, Team, TeamMember, TeamRole
from addon.platform.teams import ADMINS, EVERYBODY, Membership, bill_to_first_admin, lock_team


class MemberNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that member.")


class AlreadyMember(Exception):
    pass


class LastAdmin(Exception):
    """A team without an admin could not be managed by anybody."""

    def __init__(self, member: TeamMember) -> None:
        super().__init__(
            f"{member.account.email} is the last admin of the team {member.team.name}. Make "
            f"somebody else an admin first: `heroku members:set EMAIL --role admin "
            f"--team {member.team.name}`"
        )


def list_members(membership: Membership) -> QuerySet[TeamMember]:
    """To be seen by members only. Raises TeamForbidden."""
    membership.require(EVERYBODY)
    return members_of(membership.team)


def members_of(team: Team) -> QuerySet[TeamMember]:
    members = TeamMember.objects.filter(team=team).select_related("account")
    return members.order_by("created_at", "id")


def add_member(
    membership: Membership, person: Account, role: TeamRole, member_id: UUID
) -> TeamMember:
    """With the same id again it is the same member. Raises TeamForbidden, AlreadyMember."""
    membership.require(ADMINS)
    with transaction.atomic():
        team = lock_team(membership.team.id)
        found = TeamMember.objects.filter(team=team, account=person).first()
        if found is None:
            return TeamMember.objects.create(id=member_id, team=team, account=person, role=role)
        if found.id != member_id:
            raise AlreadyMember(
                f"{person.email} is a member of the team {team.name} already, with the role "
                f"{found.role}; it is changed by `heroku members:set`"
            )
        return found


def put_member(
    membership: Membership, person: Account, role: TeamRole, member_id: UUID
) -> TeamMember:
    """A new member, or a member with another role. Raises TeamForbidden, LastAdmin."""
    membership.require(ADMINS)
    with transaction.atomic():
        team = lock_team(membership.team.id)
        found = TeamMember.objects.filter(team=team, account=person).first()
        if found is None:
            return add_member(membership, person, role, member_id)
        return change_role(membership, person, role)


def change_role(membership: Membership, person: Account, role: TeamRole) -> TeamMember:
    """Raises TeamForbidden, MemberNotFound, LastAdmin."""
    membership.require(ADMINS)
    with transaction.atomic():
        team = lock_team(membership.team.id)
        member = _get(team, str(person.id))
        if role != TeamRole.ADMIN:
            _refuse_last_admin(member)
        member.role = role
        member.save(update_fields=["role", "updated_at"])
        bill_to_first_admin(team)
    return member


def remove_member(membership: Membership, identity: str, now: datetime) -> TeamMember:
    """By id or email; from the team and from what its apps gave besides. Anybody may leave.

    Raises TeamForbidden, MemberNotFound, LastAdmin.
    """
    membership.require(EVERYBODY)
    with transaction.atomic():
        team = lock_team(membership.team.id)
        member = _get(team, identity)
        if member.account_id != membership.account.id:
            membership.require(ADMINS)
        _refuse_last_admin(member)
        TeamMember.objects.filter(id=member.id).delete()
        _end_collaborations(member, membership.account, now)
        bill_to_first_admin(team)
    return member


def _get(team: Team, identity: str) -> TeamMember:
    found = find_member(team, identity)
    if found is None:
        raise MemberNotFound
    return found


def find_member(team: Team, identity: str) -> TeamMember | None:
    """By the id of the membership or of the account, or by email."""
    member_id = find_uuid(identity)
    if member_id is not None:
        which = Q(id=member_id) | Q(account_id=member_id)
    elif is_storable(identity):
        which = Q(account__email__iexact=identity)
    else:
        return None
    members = TeamMember.objects.filter(which, team=team)
    return members.select_related("account", "team__account").first()


def _refuse_last_admin(member: TeamMember) -> None:
    others = TeamMember.objects.filter(team=member.team, role=TeamRole.ADMIN).exclude(id=member.id)
    if member.role == TeamRole.ADMIN and not others.exists():
        raise LastAdmin(member)


def _end_collaborations(member: TeamMember, account: Account, now: datetime) -> None:
    given = Collaborator.objects.filter(
        account=member.account, app__owner=member.team.account, app__destroyed_at=None
    )
    for row in given.select_related("app__owner", "account"):
        announce(
            Change(
                kind=Kind.COLLABORATOR, action="destroy", app=row.app, row=row, account=account,
                at=now,
            )
        )  # fmt: skip
    given.delete()
