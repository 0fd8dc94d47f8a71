"""The pages behind an add-on's `web_url`, which `heroku addons:open` opens."""

from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import addons, attachment_lists
from addon.platform.addons import AddonNotFound
from addon.platform.authentication import account_of
from addon.platform.models import Account, Addon
from addon.platform.views.base import PlatformView, app_of
from addon.platform.views.pages import Page, find_signed_in, say, to_login

ADDONS_MAX = 500


class HomePage(Page):
    def get(self, request: HttpRequest) -> HttpResponse:
        account = find_signed_in(request)
        if account is None:
            return to_login(request)
        rows = addons.list_addons(account)[:ADDONS_MAX]
        return render(request, "platform/home.html", {"account": account, "addons": rows})


class AddonPage(Page):
    def get(self, request: HttpRequest, addon: UUID) -> HttpResponse:
        account = find_signed_in(request)
        if account is None:
            return to_login(request)
        try:
            found = addons.get_addon(account, str(addon))
        except AddonNotFound:
            text = "There is no such add-on, or you have no access to its app."
            return say(request, "Not found", text, 404)
        return render(request, "platform/addon.html", _context(account, found))


class AddonSingleSignOnView(PlatformView):
    """What the CLI asks for with HEROKU_SUDO set: the same page, by the session of the browser."""

    def get(self, request: Request, app: str, addon: str) -> Response:
        found = addons.get_app_addon(account_of(request), app_of(request, app), addon)
        action = f"{settings.PUBLIC_URL}/dashboard/addons/{found.id}"
        return Response({"method": "get", "action": action, "params": {}})


def _context(account: Account, addon: Addon) -> dict[str, object]:
    rows = list(attachment_lists.list_addon_attachments(account, addon))
    names = addons.attached_var_names(account, rows)
    return {
        "account": account,
        "addon": addon,
        "attachments": [{"attachment": row, "config_vars": names[row.id]} for row in rows],
        "is_inference": addon.service.name == settings.ADDON_SERVICE_NAME,
    }
