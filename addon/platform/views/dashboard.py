"""The pages behind an add-on's `web_url`, which `heroku addons:open` opens."""

from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import addons, attachment_lists, sign_ons
from addon.platform.access import Permission, require
from addon.platform.addons import AddonNotFound
from addon.platform.authentication import account_of
from addon.platform.models import Account, Addon
from addon.platform.scopes import Area
from addon.platform.sign_ons import NoSignOn
from addon.platform.views.base import PlatformView, app_of
from addon.platform.views.pages import Page, find_signed_in, say, to_login

ADDONS_MAX = 500
# Browsers hold where a form is redirected to against `form-action` too, and where a provider leads
# is its own affair: that page has one form and nothing that somebody else wrote into it.
SUBMITTING = (
    "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


class HomePage(Page):
    def get(self, request: HttpRequest) -> HttpResponse:
        account = find_signed_in(request)
        if account is None:
            return to_login(request)
        rows = addons.list_addons(account)[:ADDONS_MAX]
        return render(request, "platform/home.html", {"account": account, "addons": rows})


class AddonPage(Page):
    """Takes to the provider, or says what the add-on is where it cannot."""

    def get(self, request: HttpRequest, addon: UUID) -> HttpResponse:
        account = find_signed_in(request)
        if account is None:
            return to_login(request)
        try:
            found = addons.get_addon(account, str(addon))
        except AddonNotFound:
            text = "There is no such add-on, or you have no access to its app."
            return say(request, "Not found", text, 404)
        extra = request.GET.dict()
        context = sign_ons.context_app(found, account, extra.get("context_app", ""))
        try:
            form = sign_ons.sign(found, account, context, extra, timezone.now())
        except NoSignOn as reason:
            shown = {**_context(account, found), "reason": reason}
            return render(request, "platform/addon.html", shown)
        # Without `account`, whose way out would be a form before this one.
        response = render(request, "platform/sign_on.html", {"addon": found, "form": form})
        response["Content-Security-Policy"] = SUBMITTING
        return response


class AddonSingleSignOnView(PlatformView):
    """The form that a client may submit by itself, as the CLI does with HEROKU_SUDO set."""

    area = Area.SIGN_ON

    def get(self, request: Request, app: str, addon: str) -> Response:
        account, context = account_of(request), app_of(request, app)
        found = addons.get_app_addon(account, context, addon)
        require(found.app, account, Permission.DEPLOY)
        try:
            extra = request.query_params.dict()
            form = sign_ons.sign(found, account, context, extra, timezone.now())
        except NoSignOn:  # then there is our own page
            action = f"{settings.PUBLIC_URL}/dashboard/addons/{found.id}"
            return Response({"method": "get", "action": action, "params": {}})
        return Response({"method": "post", "action": form.action, "params": dict(form.params)})


def _context(account: Account, addon: Addon) -> dict[str, object]:
    rows = list(attachment_lists.list_addon_attachments(account, addon))
    names = addons.attached_var_names(account, rows)
    return {
        "account": account,
        "addon": addon,
        "attachments": [{"attachment": row, "config_vars": names[row.id]} for row in rows],
        "is_inference": addon.service.name == settings.ADDON_SERVICE_NAME,
    }
