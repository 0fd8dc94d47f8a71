"""What add-ons used, and which add-ons a team has."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import addons, billing_bodies, usage
from addon.platform.authentication import account_of
from addon.platform.billing_serializers import app_usage_json, team_usage_json
from addon.platform.heroku_apps import AppNotFound
from addon.platform.models import App
from addon.platform.views.addons import list_of_addons
from addon.platform.views.base import PlatformView, app_of


class AppUsageView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        return _app_usage(request, app_of(request, app))


class TeamAddonsView(PlatformView):
    """`heroku usage:addons --team` asks for the names."""

    def get(self, request: Request, team: str) -> Response:
        account = account_of(request)
        owner = usage.get_owner(account, team)
        rows = addons.list_addons(account).filter(app__owner=owner.account)
        return list_of_addons(request, rows)


class TeamUsageView(PlatformView):
    def get(self, request: Request, team: str) -> Response:
        account = account_of(request)
        owner = usage.get_owner(account, team)
        month = billing_bodies.read_month(request, timezone.now())
        used = usage.usage_by_app(owner.account, account, month)
        return Response(team_usage_json(owner, used))


class TeamAppUsageView(PlatformView):
    def get(self, request: Request, team: str, app: str) -> Response:
        owner = usage.get_owner(account_of(request), team)
        found = app_of(request, app)
        if found.owner_id != owner.account.id:
            raise AppNotFound
        return _app_usage(request, found)


def _app_usage(request: Request, app: App) -> Response:
    month = billing_bodies.read_month(request, timezone.now())
    return Response(app_usage_json(app.id, usage.app_usage(app, month)))
