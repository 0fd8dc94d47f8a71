"""Apps, and what they do not have here."""

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import (
    app_removal,
    bodies,
    errors,
    heroku_apps,
    partner_access,
    ranges,
)
from addon.platform.access import Permission
from addon.platform.authentication import account_of, partner_of
from addon.platform.models import App
from addon.platform.partner_access import READ
from addon.platform.serializers import app_json
from addon.platform.views.base import PlatformView, app_of, creation_id


class AppsView(PlatformView):
    partner_methods = READ

    def get(self, request: Request) -> Response:
        partner = partner_of(request)
        if partner is not None:
            return list_of_apps(request, partner_access.list_apps(partner))
        return list_of_apps(request, heroku_apps.list_apps(account_of(request)))

    def post(self, request: Request) -> Response:
        wanted = bodies.read_new_app(request.data, creation_id(request))
        app = heroku_apps.create_app(account_of(request), wanted, timezone.now())
        return Response(app_json(app), status=201)


class OwnAppsView(PlatformView):
    """Those of teams are not among them."""

    partner_methods = READ

    def get(self, request: Request) -> Response:
        partner = partner_of(request)
        if partner is not None:  # at Heroku it is the user of its token, with the apps of that
            return list_of_apps(request, partner_access.list_apps(partner))
        return list_of_apps(request, heroku_apps.list_personal_apps(account_of(request)))


class AppView(PlatformView):
    partner_methods = READ

    def get(self, request: Request, app: str) -> Response:
        return Response(app_json(app_of(request, app)))

    def patch(self, request: Request, app: str) -> Response:
        found = app_of(request, app, Permission.MANAGE)
        name = bodies.read_app_change(request.data)
        if name is not None:
            found = heroku_apps.rename_app(found, name, account_of(request), timezone.now())
        return Response(app_json(found))

    def delete(self, request: Request, app: str) -> Response:
        found = app_of(request, app, Permission.MANAGE)
        destroyed = app_removal.destroy_app(found, account_of(request), timezone.now())
        return Response(app_json(destroyed))


class BuildpackInstallationsView(PlatformView):
    """Nothing is built here; Terraform asks all the same."""

    def get(self, request: Request, app: str) -> Response:
        app_of(request, app)
        return Response([])


class DynosView(PlatformView):
    """No dynos run here; `heroku apps:info` asks all the same."""

    def get(self, request: Request, app: str) -> Response:
        app_of(request, app)
        return ranges.answer_short(request, [])


class PipelineCouplingsView(PlatformView):
    """No pipelines either; a 404 is how Heroku says so."""

    partner_methods = READ

    def get(self, request: Request, app: str) -> Response:
        app_of(request, app)
        raise errors.PipelineCouplingNotFound("Couldn't find that pipeline coupling.")


def list_of_apps(request: Request, rows: QuerySet[App]) -> Response:
    return ranges.answer(
        request,
        rows,
        sortable={"id": "id", "name": "name"},
        unique=("id", "name"),
        default="name",
        to_json=lambda page: [app_json(app) for app in page],
    )
