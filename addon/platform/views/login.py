"""Logging in: on a page, and through a page for the CLI (`heroku login`)."""

from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.middleware.csrf import rotate_token
from django.shortcuts import render
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import account_bodies, browser_logins, login_limits, passwords
from addon.platform.authentication import client_address
from addon.platform.browser_logins import LoginExpired
from addon.platform.login_limits import TooManyLogins
from addon.platform.passwords import WrongPassword
from addon.platform.views.base import PlatformView
from addon.platform.views.pages import (
    HOME,
    Page,
    find_signed_in,
    safe_next,
    say,
    sign_in,
    sign_out,
    to_login,
)


class BrowserLoginsView(PlatformView):
    """The CLI begins; it joins both paths to its HEROKU_LOGIN_HOST."""

    authentication_classes = []

    def post(self, request: Request) -> Response:
        address = client_address(request)
        login_limits.count_address(address)
        description = account_bodies.read_login_description(request.data)
        begun = browser_logins.begin(description, address)
        return Response(
            {
                "browser_url": f"/auth/browser/{begun.login.id}",
                "cli_url": f"/auth/cli/{begun.login.id}",
                "token": begun.secret,
            }
        )


class WaitingCli(Page):
    """The CLI waits; the answer comes when the person has decided."""

    def get(self, request: HttpRequest, login: str) -> HttpResponseBase:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        try:
            waiting = browser_logins.get_waiting(login, secret if scheme == "Bearer" else "")
        except LoginExpired as error:
            return JsonResponse({"id": "not_found", "message": str(error)}, status=404)
        # Nothing here may use the database: its connection would be held until the answer ends.
        answer = browser_logins.answer(waiting)
        return StreamingHttpResponse(answer, content_type="application/json")


class BrowserLoginPage(Page):
    """Whoever is logged in decides whether the CLI is."""

    def get(self, request: HttpRequest, login: str) -> HttpResponse:
        try:
            asked = browser_logins.get_login(login)
        except LoginExpired as error:
            return say(request, "Nothing to do", str(error), 410)
        account = find_signed_in(request)
        if account is None:
            return to_login(request)
        return render(request, "platform/confirm.html", {"login": asked, "account": account})

    def post(self, request: HttpRequest, login: str) -> HttpResponse:
        account = find_signed_in(request)
        if account is None:
            return to_login(request)
        is_allowed = request.POST.get("decision") == "allow"
        try:
            browser_logins.decide(browser_logins.get_login(login), account if is_allowed else None)
        except LoginExpired as error:
            return say(request, "Nothing to do", str(error), 410)
        if is_allowed:
            return say(request, "Logged in", "You can close this window and go on in the terminal.")
        return say(request, "Denied", "The CLI was not logged in. You can close this window.")


class LoginPage(Page):
    def get(self, request: HttpRequest) -> HttpResponse:
        wanted = safe_next(request.GET.get("next", ""))
        if find_signed_in(request) is not None:
            return HttpResponseRedirect(wanted)
        return _form(request, wanted)

    def post(self, request: HttpRequest) -> HttpResponse:
        wanted = safe_next(request.POST.get("next", ""))
        email, password = request.POST.get("email", ""), request.POST.get("password", "")
        try:
            account = passwords.log_in(email.strip(), password, client_address(request))
        except WrongPassword:
            return _form(request, wanted, "There is no account with this e-mail and password.", 401)
        except TooManyLogins as error:
            response = _form(request, wanted, f"{error}.", 429)
            response["Retry-After"] = str(error.retry_after_s)
            return response
        response = HttpResponseRedirect(wanted)
        sign_in(response, account)
        rotate_token(request)
        return response


class LogoutPage(Page):
    def post(self, request: HttpRequest) -> HttpResponse:
        response = HttpResponseRedirect(safe_next(request.POST.get("next", HOME)))
        sign_out(request, response)
        return response


def _form(request: HttpRequest, wanted: str, error: str = "", status: int = 200) -> HttpResponse:
    context = {"next": wanted, "error": error, "email": request.POST.get("email", "")}
    return render(request, "platform/login.html", context, status=status)
