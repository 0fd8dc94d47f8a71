"""What the platform's pages have in common: who is logged in, and how they are served."""

from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme

from addon.pages import BasePage
from addon.platform import web_sessions
from addon.platform.models import Account

LOGIN = "/login"
HOME = "/dashboard"


class Page(BasePage):
    message_template = "platform/message.html"


say = Page.say


def find_signed_in(request: HttpRequest) -> Account | None:
    return web_sessions.find_account(request.COOKIES.get(web_sessions.COOKIE, ""))


def to_login(request: HttpRequest) -> HttpResponseRedirect:
    """The login page, which leads back to where `request` wanted to go."""
    return HttpResponseRedirect(f"{LOGIN}?{urlencode({'next': request.get_full_path()})}")


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
