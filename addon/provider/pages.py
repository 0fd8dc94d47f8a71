"""The provider's pages: a platform sends a browser here, which then sees the one resource."""

import logging
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt

from addon.pages import BasePage, Refusal
from addon.provider import key_rotation, resource_pages, resource_sessions, sign_ons
from addon.provider.key_rotation import PlatformNotReachable, SharedKey, TooManyKeys
from addon.provider.provisioning import (
    AttachmentGone,
    AttachmentNotFound,
    ResourceGone,
    ResourceNotFound,
    ResourceNotReady,
)
from addon.provider.resource_sessions import NotSignedOn
from addon.provider.sign_ons import InvalidSignOn, NoSingleSignOn

logger = logging.getLogger(__name__)

NAV_DATA_COOKIE = "heroku-nav-data"
AGAIN = "Please open the add-on again, where you came from: heroku addons:open does it."
NOT_FOUND = Refusal(status=404, title="Not found", text="There is no such add-on here any more.")
NOT_REPLACED = Refusal(status=422, title="The key was not replaced", text="{error}.")


class ProviderPage(BasePage):
    message_template = "provider/message.html"
    refusals = {
        NoSingleSignOn: Refusal(status=404, title="Not available", text="{error}."),
        InvalidSignOn: Refusal(
            status=403,
            title="You are not signed in",
            text="What brought you here cannot be used: {error}. " + AGAIN,
        ),
        NotSignedOn: Refusal(status=403, title="Your session has ended", text=AGAIN),
        ResourceNotFound: NOT_FOUND,
        ResourceGone: NOT_FOUND,
        AttachmentNotFound: NOT_FOUND,
        AttachmentGone: NOT_FOUND,
        ResourceNotReady: NOT_REPLACED,
        SharedKey: NOT_REPLACED,
        TooManyKeys: NOT_REPLACED,
        PlatformNotReachable: NOT_REPLACED,
    }


# The form is the platform's, of another origin: its signature is what counts.
@method_decorator(csrf_exempt, name="dispatch")
class SignOnPage(ProviderPage):
    def get(self, request: HttpRequest) -> HttpResponse:
        return self.say(request, "Nothing to see here", AGAIN, 405)

    def post(self, request: HttpRequest) -> HttpResponse:
        try:
            sign_on = sign_ons.verify(request.POST.dict(), timezone.now())
        except InvalidSignOn as error:
            logger.warning("single sign-on was refused: %s", error)
            raise
        resource_pages.get_live(sign_on.resource_id)
        path = _path(sign_on.resource_id)
        response = HttpResponseRedirect(path, status=303)
        secret = resource_sessions.open_session(sign_on)
        _set_cookie(response, resource_sessions.COOKIE, secret, path)
        if sign_on.nav_data:
            _set_cookie(response, NAV_DATA_COOKIE, sign_on.nav_data, "/")
        return response


def _set_cookie(response: HttpResponse, name: str, value: str, path: str) -> None:
    response.set_cookie(
        name,
        value,
        max_age=resource_sessions.LASTS_S,
        path=path,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",  # the redirect behind the form still counts as the platform's
    )


class ResourcePage(ProviderPage):
    def get(self, request: HttpRequest, resource: UUID) -> HttpResponse:
        session = resource_sessions.get_session(_secret(request), resource)
        page = resource_pages.describe(resource_pages.get_live(resource), timezone.now())
        context = {"page": page, "session": session, "overlap": _in_words(_overlap())}
        return render(request, "provider/resource.html", context)


class RotateKeyPage(ProviderPage):
    def post(self, request: HttpRequest, resource: UUID, attachment: UUID) -> HttpResponse:
        resource_sessions.get_session(_secret(request), resource)
        key_rotation.rotate_attachment(resource, attachment, _overlap(), timezone.now())
        return HttpResponseRedirect(_path(resource), status=303)


class SignOutPage(ProviderPage):
    def post(self, request: HttpRequest, resource: UUID) -> HttpResponse:
        resource_sessions.close_session(_secret(request))
        response = self.say(request, "You are signed out", AGAIN)
        response.delete_cookie(resource_sessions.COOKIE, path=_path(resource), samesite="Lax")
        return response


def _path(resource_id: UUID) -> str:
    return f"/heroku/dashboard/{resource_id}"


def _secret(request: HttpRequest) -> str:
    return request.COOKIES.get(resource_sessions.COOKIE, "")


def _overlap() -> timedelta:
    return timedelta(seconds=settings.KEY_OVERLAP_S)


def _in_words(overlap: timedelta) -> str:
    minutes = -(-int(overlap.total_seconds()) // 60)
    return f"goes on working for {minutes} minutes" if minutes else "ends at once"
