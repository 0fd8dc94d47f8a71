"""Add-ons."""

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import (
    addon_services,
    addons,
    attachment_lists,
    bodies,
    credential_rotation,
    heroku_apps,
    partner_access,
    partner_actions,
    partner_bodies,
    plan_changes,
    provisioning,
    ranges,
)
from addon.platform.access import Permission
from addon.platform.authentication import account_of, partner_of
from addon.platform.models import Addon
from addon.platform.partner_access import READ
from addon.platform.scopes import Area
from addon.platform.serializers import (
    addon_json,
    addons_json,
)
from addon.platform.views.base import PlatformView, addon_of, app_of, creation_id, viewer_of
from addon.platform.views.partner import config_rows, partner_for


class AddonsView(PlatformView):
    partner_methods = READ

    def get(self, request: Request) -> Response:
        partner = partner_of(request)
        if partner is not None:
            return list_of_addons(request, partner_access.list_addons(partner))
        return list_of_addons(request, addons.list_addons(account_of(request)))


class AddonView(PlatformView):
    partner_methods = READ

    def get(self, request: Request, addon: str) -> Response:
        found = addon_of(request, addon)
        return Response(addon_json(found, viewer_of(request), timezone.now()))


class AddonConfigView(PlatformView):
    """What the add-on has for the app that owns it, by the names of the manifest."""

    area = Area.CONFIG_VARS
    partner_methods = READ | {"PATCH"}

    def get(self, request: Request, addon: str) -> Response:
        found = addon_of(request, addon)
        if partner_of(request) is None:
            heroku_apps.get_app(account_of(request), str(found.app_id), Permission.DEPLOY)
        return ranges.answer_short(
            request, config_rows(addons.config_of(found)), sortable=("name",)
        )

    def patch(self, request: Request, addon: str) -> Response:
        partner = partner_for(request, addon)
        changes = partner_bodies.read_config(request.data)
        return Response(
            config_rows(partner_actions.update_config(partner, changes, timezone.now()))
        )


class AddonNamespaceConfigView(PlatformView):
    """Named credentials, which no add-on here has; `addons:attach --credential` asks for them."""

    area = Area.CONFIG_VARS
    partner_methods = READ

    def get(self, request: Request, addon: str, namespace: str) -> Response:
        addon_of(request, addon)
        return ranges.answer_short(request, [], sortable=("name",))


class RotateCredentialsView(PlatformView):
    """Beyond Heroku's API: the config vars follow when the provider calls back."""

    def post(self, request: Request, addon: str) -> Response:
        account, body = account_of(request), bodies.read_rotation(request.data)
        found = addons.get_addon(account, addon)
        heroku_apps.get_app(account, str(found.app_id), Permission.DEPLOY)
        attachment = None
        if body.attachment is not None:
            attachment = attachment_lists.get_addon_attachment(account, found, body.attachment)
        credential_rotation.rotate(found, attachment, body.overlap_s)
        return Response(addon_json(found, account, timezone.now()))


class AppAddonsView(PlatformView):
    partner_methods = READ

    def get(self, request: Request, app: str) -> Response:
        found, partner = app_of(request, app), partner_of(request)
        if partner is not None:
            return list_of_addons(request, partner_access.list_addons(partner))
        return list_of_addons(request, addons.list_app_addons(found))

    def post(self, request: Request, app: str) -> Response:
        found, account = app_of(request, app, Permission.OPERATE), account_of(request)
        body = bodies.read_addon(request.data)
        service, plan = addon_services.order_plan(body.plan)
        order = provisioning.Order(
            id=creation_id(request, found.id),
            app=found,
            account=account,
            service=service,
            plan=plan,
            name=body.name,
            wish=body.wish,
            options=body.options,
        )
        now = timezone.now()
        ordered = provisioning.provision(order, now)
        return Response(addon_json(ordered, account, now), status=201)


class AppAddonView(PlatformView):
    def get(self, request: Request, app: str, addon: str) -> Response:
        account = account_of(request)
        found = addons.get_app_addon(account, app_of(request, app), addon)
        return Response(addon_json(found, account, timezone.now()))

    def patch(self, request: Request, app: str, addon: str) -> Response:
        account, now = account_of(request), timezone.now()
        found = addons.get_own_addon(account, app_of(request, app), addon)
        change = bodies.read_addon_change(request.data)
        plan = change.plan and addon_services.plan_to_change_to(found.service, change.plan)
        if change.name is not None:  # first, for it costs nothing if the plan is then refused
            found = provisioning.rename(found, change.name, account, now)
        if plan:
            found = plan_changes.change_plan(found, plan, account, timezone.now())
        return Response(addon_json(found, account, now))

    def delete(self, request: Request, app: str, addon: str) -> Response:
        account, now = account_of(request), timezone.now()
        found = addons.get_own_addon(account, app_of(request, app), addon)
        force = bodies.read_force(request.data)
        destroyed = provisioning.destroy(found, account, now, force=force)
        # The CLI reads the state; an empty 204 would crash it.
        return Response(addon_json(destroyed, account, now))


class ResolveAddonsView(PlatformView):
    area = Area.LOOK_UP

    def post(self, request: Request) -> Response:
        account, body = account_of(request), bodies.read_resolve(request.data, "addon")
        found = addons.resolve_addons(account, body.identity, body.app, body.service)
        return Response(addons_json(found, account, timezone.now()))


def list_of_addons(request: Request, rows: QuerySet[Addon]) -> Response:
    account, now = viewer_of(request), timezone.now()
    return ranges.answer(
        request,
        rows,
        sortable={"id": "id", "name": "name", "created_at": "created_at"},
        unique=("id", "name"),
        default="created_at",
        to_json=lambda page: addons_json(page, account, now),
    )
