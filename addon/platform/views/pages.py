"""What the pages for people have in common: who is logged in, and how they are served."""

import logging
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views import View
from redis.exceptions import RedisError

from addon.platform import web_sessions
from addon.platform.models import Account

logger = logging.getLogger(__name__)

# Nothing but our own style sheet is loaded, and forms are sent to nobody else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
LOGIN = "/login"
HOME = "/dashboard"


class Page(View):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = super().dispatch(request, *args, **kwargs)
        except (RedisError, OperationalError, InterfaceError):
            logger.exception("a page cannot be shown")
            response = say(request, "Not available", "Please try again in a minute.", 503)
        response["Cache-Control"] = "no-store"
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response


def say(request: HttpRequest, title: str, text: str, status: int = 200) -> HttpResponse:
    """A page with nothing to do on it."""
    context = {"title": title, "text": text, "account": None}
    return render(request, "platform/message.html", context, status=status)


def find_signed_in(request: HttpRequest) -> Account | None:
    return web_sessions.find_account(request.COOKIES.get(web_sessions.COOKIE, ""))


def to_login(request: HttpRequest) -> HttpResponseRedirect:
    """The login page, which leads back to where `request` wanted to go."""
    return HttpResponseRedirect(f"{LOGIN}?{urlencode({'next': request.path})}")


def safe_next(wanted: str) -> str:
    """`wanted` if it is a path of ours, and never an address elsewhere."""
    is_path = wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if is_path else HOME


def sign_in(response: HttpResponse, account: Account) -> None:
    response.set_cookie(
        web_sessions.COOKIE,
        web_sessions.open_session(account),
        max_age=web_sessions.LASTS_S,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )


def sign_out(request: HttpRequest, response: HttpResponse) -> None:
    web_sessions.close_session(request.COOKIES.get(web_sessions.COOKIE, ""))
    response.delete_cookie(web_sessions.COOKIE, samesite="Lax")
