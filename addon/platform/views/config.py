"""Config vars and releases."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import (
    bodies,
    config_vars,
    ranges,
    releases,
)
from addon.platform.access import Permission
from addon.platform.authentication import account_of
from addon.platform.scopes import Area
from addon.platform.serializers import (
    release_json,
)
from addon.platform.views.base import PlatformView, app_of, creation_id


class ReleasesView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        found = app_of(request, app)
        versions = releases.versions_of(found)
        return ranges.answer(
            request,
            releases.list_releases(found),
            sortable={"id": "id", "version": "version"},
            unique=("id", "version"),
            default="version",
            to_json=lambda page: [release_json(release, versions) for release in page],
        )

    def post(self, request: Request, app: str) -> Response:
        """Roll back; `release` is an id or a version."""
        found = app_of(request, app, Permission.DEPLOY)
        release = releases.get_release(found, bodies.read_release(request.data))
        made = config_vars.roll_back(
            found, release, account_of(request), timezone.now(), creation_id(request)
        )
        return Response(release_json(made, releases.versions_of(found)), status=201)


class ReleaseView(PlatformView):
    def get(self, request: Request, app: str, release: str) -> Response:
        found = app_of(request, app)
        versions = releases.versions_of(found)
        return Response(release_json(releases.get_release(found, release), versions))


class ReleaseConfigVarsView(PlatformView):
    """Every config var as it was with the release."""

    area = Area.CONFIG_VARS

    def get(self, request: Request, app: str, release: str) -> Response:
        found = releases.get_release(app_of(request, app, Permission.DEPLOY), release)
        return Response(releases.config_of_release(found))


class ConfigVarsView(PlatformView):
    area = Area.CONFIG_VARS

    def get(self, request: Request, app: str) -> Response:
        return Response(config_vars.config_of(app_of(request, app, Permission.DEPLOY)))

    def patch(self, request: Request, app: str) -> Response:
        found = app_of(request, app, Permission.DEPLOY)
        changes = bodies.read_config_changes(request.data)
        config = config_vars.change_config(found, account_of(request), changes, timezone.now())
        return Response(config)
