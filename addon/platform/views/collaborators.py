"""Who has access to an app. A team's app has a second set of routes, with permissions."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import collaborators, ranges, team_bodies
from addon.platform.access import Permission
from addon.platform.accounts import get_account
from addon.platform.authentication import account_of
from addon.platform.collaborators import Invitation
from addon.platform.heroku_apps import AppNotFound
from addon.platform.models import App
from addon.platform.partner_access import READ
from addon.platform.team_serializers import access_json
from addon.platform.views.base import PlatformView, app_of, creation_id


class CollaboratorsView(PlatformView):
    partner_methods = READ

    def app(self, request: Request, identity: str, permission: Permission = Permission.VIEW) -> App:
        return app_of(request, identity, permission)

    def get(self, request: Request, app: str) -> Response:
        rows = [access_json(each) for each in collaborators.list_access(self.app(request, app))]
        return ranges.answer_short(request, rows, sortable=("id",))

    def post(self, request: Request, app: str) -> Response:
        found = self.app(request, app, Permission.MANAGE)
        wanted = Invitation(
            id=creation_id(request, found.id),
            person=get_account(team_bodies.read_user(request.data)),
            permissions=team_bodies.find_permissions(request.data),
        )
        added = collaborators.add_collaborator(found, wanted, account_of(request), timezone.now())
        return Response(access_json(added), status=201)


class CollaboratorView(PlatformView):
    def app(self, request: Request, identity: str) -> App:
        return app_of(request, identity)

    def get(self, request: Request, app: str, collaborator: str) -> Response:
        found = collaborators.get_access(self.app(request, app), collaborator)
        return Response(access_json(found))

    def delete(self, request: Request, app: str, collaborator: str) -> Response:
        removed = collaborators.remove_collaborator(
            self.app(request, app), collaborator, account_of(request), timezone.now()
        )
        return Response(access_json(removed))


class TeamAppCollaboratorsView(CollaboratorsView):
    def app(self, request: Request, identity: str, permission: Permission = Permission.VIEW) -> App:
        return team_app_of(request, identity, permission)


class TeamAppCollaboratorView(CollaboratorView):
    def app(self, request: Request, identity: str) -> App:
        return team_app_of(request, identity)

    def patch(self, request: Request, app: str, collaborator: str) -> Response:
        found = team_app_of(request, app, Permission.MANAGE)
        permissions = team_bodies.read_permissions(request.data)
        changed = collaborators.change_permissions(
            found, collaborator, permissions, account_of(request), timezone.now()
        )
        return Response(access_json(changed))


def team_app_of(request: Request, identity: str, permission: Permission = Permission.VIEW) -> App:
    """Raises AppNotFound for a person's app, too, and Forbidden."""
    found = app_of(request, identity)
    if not collaborators.is_of_a_team(found):
        raise AppNotFound
    return app_of(request, identity, permission)
