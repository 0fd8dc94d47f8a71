"""Teams, their members and their apps."""

from uuid import UUID

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import heroku_apps, partner_access, ranges, team_bodies, team_members, teams
from addon.platform.access import ALL
from addon.platform.accounts import get_account
from addon.platform.authentication import account_of, partner_of
from addon.platform.models import Account
from addon.platform.partner_access import READ
from addon.platform.team_serializers import (
    features_json,
    member_json,
    permissions_json,
    team_app_json,
    team_json,
)
from addon.platform.teams import Membership
from addon.platform.views.base import PlatformView, creation_id
from addon.platform.views.collaborators import team_app_of


class TeamsView(PlatformView):
    def get(self, request: Request) -> Response:
        rows = [team_json(each) for each in teams.list_memberships(account_of(request))]
        return ranges.answer_short(request, rows)

    def post(self, request: Request) -> Response:
        name = team_bodies.read_team_name(request.data)
        made = teams.create_team(name, account_of(request), creation_id(request))
        return Response(team_json(made), status=201)


class TeamView(PlatformView):
    def get(self, request: Request, team: str) -> Response:
        return Response(team_json(_membership(request, team)))

    def patch(self, request: Request, team: str) -> Response:
        membership = _membership(request, team)
        membership.require(teams.ADMINS)
        name = team_bodies.read_team_change(request.data)
        if name is not None:
            membership = teams.rename_team(membership, name)
        return Response(team_json(membership))

    def delete(self, request: Request, team: str) -> Response:
        membership = _membership(request, team)
        answer = team_json(membership)
        teams.delete_team(membership)
        return Response(answer)


class TeamFeaturesView(PlatformView):
    def get(self, request: Request, team: str) -> Response:
        return Response(features_json(_membership(request, team)))


class TeamPermissionsView(PlatformView):
    """What can be given to a collaborator of a team's app."""

    def get(self, request: Request) -> Response:
        return Response(permissions_json(ALL))


class TeamMembersView(PlatformView):
    partner_methods = READ

    def get(self, request: Request, team: str) -> Response:
        partner = partner_of(request)
        return ranges.answer(
            request,
            team_members.list_members(_membership(request, team))
            if partner is None
            else team_members.members_of(partner_access.get_team(partner, team)),
            sortable={"created_at": "created_at", "email": "account__email", "id": "id"},
            unique=("email", "id"),
            default="created_at",
            to_json=lambda rows: [member_json(row) for row in rows],
        )

    def post(self, request: Request, team: str) -> Response:
        membership, body = _to_manage(request, team), team_bodies.read_member(request.data)
        person = get_account(body.email)
        member_id = creation_id(request, membership.team.id)
        added = team_members.add_member(membership, person, body.role, member_id)
        return Response(member_json(added), status=201)

    def put(self, request: Request, team: str) -> Response:
        membership, body = _to_manage(request, team), team_bodies.read_member(request.data)
        person = get_account(body.email)
        member_id = creation_id(request, membership.team.id)
        member = team_members.put_member(membership, person, body.role, member_id)
        return Response(member_json(member), status=201)

    def patch(self, request: Request, team: str) -> Response:
        membership, body = _to_manage(request, team), team_bodies.read_member(request.data)
        changed = team_members.change_role(membership, get_account(body.email), body.role)
        return Response(member_json(changed))


class TeamMemberView(PlatformView):
    def delete(self, request: Request, team: str, member: str) -> Response:
        removed = team_members.remove_member(_membership(request, team), member, timezone.now())
        return Response(member_json(removed))


class TeamAppsView(PlatformView):
    def get(self, request: Request, team: str) -> Response:
        account, owner = account_of(request), _membership(request, team).team.account
        joined = _joined(account)
        return ranges.answer(
            request,
            heroku_apps.list_apps(account).filter(owner=owner),
            sortable={"id": "id", "name": "name", "updated_at": "updated_at"},
            unique=("id", "name"),
            default="name",
            to_json=lambda rows: [team_app_json(row, joined) for row in rows],
        )


class NewTeamAppView(PlatformView):
    def post(self, request: Request) -> Response:
        account = account_of(request)
        body = team_bodies.read_team_app(request.data, creation_id(request))
        app = teams.create_team_app(
            teams.get_membership(account, body.team), body.app, timezone.now()
        )
        return Response(team_app_json(app, _joined(account)), status=201)


class TeamAppView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        found = team_app_of(request, app)
        return Response(team_app_json(found, _joined(account_of(request))))


def _membership(request: Request, team: str) -> Membership:
    """Raises TeamNotFound."""
    return teams.get_membership(account_of(request), team)


def _to_manage(request: Request, team: str) -> Membership:
    """Raises TeamNotFound, TeamForbidden."""
    membership = _membership(request, team)
    membership.require(teams.ADMINS)
    return membership


def _joined(account: Account) -> frozenset[UUID]:
    """The ids of the apps that `account` is a collaborator of."""
    return frozenset(account.collaborations.values_list("app_id", flat=True))
