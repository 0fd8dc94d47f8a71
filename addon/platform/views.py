"""The Platform API: translate in, one domain call, translate out."""

import uuid
from collections.abc import Sequence
from typing import Any

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from addon.json_api import AlwaysJson, StrictJsonParser
from addon.platform import (
    addon_services,
    addons,
    app_removal,
    attachment_lists,
    attachments,
    bodies,
    config_vars,
    errors,
    heroku_apps,
    plan_changes,
    provisioning,
    releases,
)
from addon.platform.authentication import TokenAuthentication, account_of
from addon.platform.models import App
from addon.platform.regions import REGIONS
from addon.platform.serializers import (
    account_json,
    addon_json,
    addon_service_json,
    addons_json,
    app_json,
    attachment_json,
    collaborator_json,
    plan_json,
    region_json,
    release_json,
)


class PlatformView(APIView):
    authentication_classes: Sequence[type[BaseAuthentication]] = [TokenAuthentication]
    content_negotiation_class = AlwaysJson
    parser_classes = [StrictJsonParser]

    def get_exception_handler(self) -> Any:
        return errors.handle

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        answer["Request-Id"] = str(uuid.uuid4())
        return answer


class AccountView(PlatformView):
    def get(self, request: Request) -> Response:
        return Response(account_json(account_of(request)))


class AppsView(PlatformView):
    def get(self, request: Request) -> Response:
        return Response([app_json(app) for app in heroku_apps.list_apps(account_of(request))])

    def post(self, request: Request) -> Response:
        wanted = bodies.read_new_app(request.data)
        app = heroku_apps.create_app(account_of(request), wanted, timezone.now())
        return Response(app_json(app), status=201)


class OwnAppsView(PlatformView):
    def get(self, request: Request) -> Response:
        return Response([app_json(app) for app in heroku_apps.list_apps(account_of(request))])


class AppView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        return Response(app_json(_app(request, app)))

    def delete(self, request: Request, app: str) -> Response:
        destroyed = app_removal.destroy_app(_app(request, app), account_of(request), timezone.now())
        return Response(app_json(destroyed))


class CollaboratorsView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        return Response([collaborator_json(_app(request, app))])


class DynosView(PlatformView):
    """No dynos run here; `heroku apps:info` asks all the same."""

    def get(self, request: Request, app: str) -> Response:
        _app(request, app)
        return Response([])


class PipelineCouplingsView(PlatformView):
    """No pipelines either; a 404 is how Heroku says so."""

    def get(self, request: Request, app: str) -> Response:
        _app(request, app)
        raise errors.PipelineCouplingNotFound("Couldn't find that pipeline coupling.")


class ReleasesView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        found = _app(request, app)
        page = releases.list_releases(found, releases.parse_range(request.headers.get("Range", "")))
        current = releases.current_version(found)
        rows = [release_json(release, current) for release in page.releases]
        headers = releases.range_headers(page)
        return Response(rows, status=206 if page.is_cut else 200, headers=headers)


class ReleaseView(PlatformView):
    def get(self, request: Request, app: str, release: str) -> Response:
        found = _app(request, app)
        current = releases.current_version(found)
        return Response(release_json(releases.get_release(found, release), current))


class ConfigVarsView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        return Response(config_vars.config_of(_app(request, app)))

    def patch(self, request: Request, app: str) -> Response:
        found, changes = _app(request, app), bodies.read_config_changes(request.data)
        config = config_vars.change_config(found, account_of(request), changes, timezone.now())
        return Response(config)


class AddonServicesView(PlatformView):
    authentication_classes = []  # what is on sale may be read without an account

    def get(self, request: Request) -> Response:
        return Response([addon_service_json(row) for row in addon_services.list_services()])


class AddonServiceView(PlatformView):
    authentication_classes = []

    def get(self, request: Request, service: str) -> Response:
        return Response(addon_service_json(addon_services.get_service(service)))


class PlansView(PlatformView):
    authentication_classes = []

    def get(self, request: Request, service: str) -> Response:
        found = addon_services.get_service(service)
        now = timezone.now()
        plans = addon_services.visible_plans(found)
        return Response([plan_json(plan, found, now) for plan in plans])


class PlanView(PlatformView):
    authentication_classes = []

    def get(self, request: Request, service: str, plan: str) -> Response:
        found = addon_services.get_service(service)
        return Response(plan_json(addon_services.get_plan(found, plan), found, timezone.now()))


class AddonsView(PlatformView):
    def get(self, request: Request) -> Response:
        return Response(addons_json(addons.list_addons(account_of(request)), timezone.now()))


class AddonView(PlatformView):
    def get(self, request: Request, addon: str) -> Response:
        return Response(addon_json(addons.get_addon(account_of(request), addon), timezone.now()))


class AppAddonsView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        return Response(addons_json(addons.list_app_addons(_app(request, app)), timezone.now()))

    def post(self, request: Request, app: str) -> Response:
        found, body = _app(request, app), bodies.read_addon(request.data)
        service, plan = addon_services.order_plan(body.plan)
        order = provisioning.Order(
            app=found,
            account=account_of(request),
            service=service,
            plan=plan,
            name=body.name,
            wish=body.wish,
            options=body.options,
        )
        now = timezone.now()
        return Response(addon_json(provisioning.provision(order, now), now), status=201)


class AppAddonView(PlatformView):
    def get(self, request: Request, app: str, addon: str) -> Response:
        found = addons.get_app_addon(_app(request, app), addon)
        return Response(addon_json(found, timezone.now()))

    def patch(self, request: Request, app: str, addon: str) -> Response:
        found = addons.get_app_addon(_app(request, app), addon)
        plan_name = bodies.read_plan_change(request.data)
        plan = addon_services.plan_to_change_to(found.service, plan_name)
        now = timezone.now()
        changed = plan_changes.change_plan(found, plan, account_of(request), now)
        return Response(addon_json(changed, now))

    def delete(self, request: Request, app: str, addon: str) -> Response:
        found = addons.get_app_addon(_app(request, app), addon)
        force, now = bodies.read_force(request.data), timezone.now()
        destroyed = provisioning.destroy(found, account_of(request), now, force=force)
        # The CLI reads the state; an empty 204 would crash it.
        return Response(addon_json(destroyed, now))


class AttachmentsView(PlatformView):
    def get(self, request: Request) -> Response:
        rows = attachment_lists.list_attachments(account_of(request))
        return Response([attachment_json(row) for row in rows])

    def post(self, request: Request) -> Response:
        account, body = account_of(request), bodies.read_attachment(request.data)
        addon = addons.get_addon(account, body.addon)
        app = heroku_apps.get_app(account, body.app)
        attachment = attachments.attach(addon, app, account, body.wish, timezone.now())
        return Response(attachment_json(attachment), status=201)


class AttachmentView(PlatformView):
    def get(self, request: Request, attachment: str) -> Response:
        found = attachment_lists.get_attachment(account_of(request), attachment)
        return Response(attachment_json(found))

    def delete(self, request: Request, attachment: str) -> Response:
        found = attachment_lists.get_attachment(account_of(request), attachment)
        attachments.detach(found, account_of(request), timezone.now())
        return Response(attachment_json(found))


class AddonAttachmentsView(PlatformView):
    def get(self, request: Request, addon: str) -> Response:
        account = account_of(request)
        rows = attachment_lists.list_addon_attachments(account, addons.get_addon(account, addon))
        return Response([attachment_json(row) for row in rows])


class AppAttachmentsView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        rows = attachment_lists.list_app_attachments(_app(request, app))
        return Response([attachment_json(row) for row in rows])


class AppAttachmentView(PlatformView):
    def get(self, request: Request, app: str, attachment: str) -> Response:
        found = attachment_lists.get_app_attachment(_app(request, app), attachment)
        return Response(attachment_json(found))


class ResolveAddonsView(PlatformView):
    def post(self, request: Request) -> Response:
        body = bodies.read_resolve(request.data, "addon")
        found = addons.resolve_addons(account_of(request), body.identity, body.app)
        return Response(addons_json(found, timezone.now()))


class ResolveAttachmentsView(PlatformView):
    def post(self, request: Request) -> Response:
        body = bodies.read_resolve(request.data, "addon_attachment")
        account = account_of(request)
        found = attachment_lists.resolve_attachments(account, body.identity, body.app)
        return Response([attachment_json(row) for row in found])


class RegionsView(PlatformView):
    def get(self, request: Request) -> Response:
        return Response([region_json(region) for region in REGIONS.values()])


def _app(request: Request, identity: str) -> App:
    return heroku_apps.get_app(account_of(request), identity)
