"""`POST sso_url`: the customer comes from the platform's dashboard, with a token that proves it."""

import hashlib
import time
from collections.abc import Mapping
from functools import cache
from ssl import SSLContext
from urllib.parse import urlsplit

import httpx

from addon.conformance.checks import Failed, Skipped, Warned, check
from addon.conformance.run import Resource, Run

WINDOW_S = 300
USER_ID = "01234567-89ab-cdef-0123-456789abcdef"
EMAIL = "conformance@example.com"
TOKENS = ("user_scoped_resource_token", "resource_token", "token")


def resource_of(run: Run) -> Resource:
    if run.manifest.sso_salt is None or run.manifest.sso_url is None:
        raise Skipped("the manifest has no sso_salt and sso_url")
    return run.shared()


def form(run: Run, timestamp: int | None = None, *, resource: Resource | None = None
) -> dict[str, str]:  # fmt: skip
    """What the platform posts, with all three tokens."""
    resource = resource or resource_of(run)
    moment = str(run.login_timestamp() if timestamp is None else timestamp)
    salt, provider_id = run.manifest.sso_salt or "", str(resource.provider_id)
    return {
        "resource_id": resource.uuid,
        "resource_token": _sha1(resource.uuid, salt, moment),
        "user_scoped_resource_token": _sha256(resource.uuid, salt, moment, USER_ID, EMAIL),
        "timestamp": moment,
        "user_id": USER_ID,
        "email": EMAIL,
        "app": "conformance",
        "context_app": "conformance",
        "nav-data": "e30",
        "id": provider_id,
        "token": _sha1(provider_id, salt, moment),
    }


def _sha1(*parts: str) -> str:
    return hashlib.sha1(":".join(parts).encode()).hexdigest()  # noqa: S324 - the contract's


def _sha256(*parts: str) -> str:
    return hashlib.sha256(":".join(parts).encode()).hexdigest()


def with_only(fields: Mapping[str, str], token: str) -> dict[str, str]:
    others = {*TOKENS} - {token}
    if token != "token":  # noqa: S105 - a field's name
        others.add("id")
    return {name: value for name, value in fields.items() if name not in others}


def log_in(run: Run, fields: Mapping[str, str]) -> httpx.Response:
    """The page that a browser shows in the end. Raises Failed when there is none."""
    try:
        with httpx.Client(
            follow_redirects=True,
            max_redirects=5,
            timeout=run.subject.timeout_s,
            verify=_tls_context(),
        ) as browser:
            return browser.post(run.manifest.sso_url or "", data=dict(fields))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Failed(f"no answer ({type(error).__name__})") from None


@cache
def _tls_context() -> SSLContext:
    return httpx.create_ssl_context()  # reading the certificates takes tens of milliseconds


def require_login(run: Run, fields: Mapping[str, str]) -> httpx.Response:
    page = log_in(run, fields)
    if page.status_code != 200:
        raise Failed(f"the login ended with {page.status_code}; expected 200")
    return page


def require_403(run: Run, fields: Mapping[str, str], what: str) -> None:
    page = log_in(run, fields)
    if page.status_code != 403:
        raise Failed(f"{what} was answered {page.status_code}; expected 403")


@check(
    "sso.login",
    "a login with all tokens ends on a page",
    "`heroku addons:open` and the dashboard lead there.",
)
def login(run: Run) -> None:
    require_login(run, form(run))


@check(
    "sso.session",
    "it sets a cookie that scripts cannot read",
    "The session is the customer's; a script of another's in the page must not have it.",
)
def session(run: Run) -> None:
    page = require_login(run, form(run))
    headers = [
        line for answer in (*page.history, page) for line in answer.headers.get_list("set-cookie")
    ]
    if not headers:
        raise Warned("no cookie was set")
    if not any("httponly" in line.lower() for line in headers):
        raise Warned("none of the cookies is HttpOnly")
    is_https = urlsplit(run.manifest.sso_url or "").scheme == "https"
    if is_https and not any("; secure" in line.lower() for line in headers):
        raise Warned("none of the cookies is Secure")


def _each_token(run: Run, token: str) -> None:
    page = log_in(run, with_only(form(run), token))
    if page.status_code != 200:
        raise Warned(f"it was answered {page.status_code}")


@check(
    "sso.user-scoped-token",
    "user_scoped_resource_token alone logs in (sha256)",
    "It binds the user, and is what Heroku recommends since 2026.",
)
def user_scoped_token(run: Run) -> None:
    _each_token(run, "user_scoped_resource_token")


@check(
    "sso.resource-token",
    "resource_token alone logs in (sha1)",
    "It is what v3 platforms without users of their own send.",
)
def resource_token(run: Run) -> None:
    _each_token(run, "resource_token")


@check(
    "sso.legacy-token",
    "id and token alone log in (v1)",
    "kensa sends nothing else.",
)
def legacy_token(run: Run) -> None:
    _each_token(run, "token")


@check(
    "sso.bad-token",
    "a wrong token is a 403, whichever it is",
    "Who can log in with any token is every customer at once.",
)
def bad_token(run: Run) -> None:
    wrong = "0" * 64
    for token in TOKENS:
        fields = with_only(form(run), token)
        require_403(run, {**fields, token: wrong[: len(fields[token])]}, f"a wrong {token}")
    require_403(run, {**form(run), **dict.fromkeys(TOKENS, wrong)}, "a form of wrong tokens")


@check(
    "sso.truncated-token",
    "a token that is cut short, or empty, is a 403",
    "A comparison up to the shorter of two texts lets an empty one in.",
)
def truncated_token(run: Run) -> None:
    for token in TOKENS:
        fields = with_only(form(run), token)
        for length in (0, 1, len(fields[token]) // 2, len(fields[token]) - 1):
            cut = {**fields, token: fields[token][:length]}
            require_403(run, cut, f"a {token} of {length} characters")


@check(
    "sso.no-token",
    "a form without a token is a 403",
    "A field that is missing must not compare equal to nothing.",
)
def no_token(run: Run) -> None:
    fields = {name: value for name, value in form(run).items() if name not in TOKENS}
    require_403(run, fields, "a form without tokens")


@check(
    "sso.old",
    "a timestamp of more than five minutes ago is a 403",
    "Links stay in histories and logs; after five minutes they must be worthless.",
)
def old(run: Run) -> None:
    require_403(run, form(run, int(time.time()) - WINDOW_S - 60), "a form of six minutes ago")


@check(
    "sso.future",
    "a timestamp more than five minutes ahead is a 403",
    "A token from the future would be good for as long as its maker liked.",
)
def future(run: Run) -> None:
    require_403(run, form(run, int(time.time()) + WINDOW_S + 60), "a form six minutes ahead")


@check(
    "sso.no-number",
    "a timestamp that is no number is a 403, or another 4xx",
    "A 5xx at the door tells strangers what is behind it.",
)
def no_number(run: Run) -> None:
    page = log_in(run, {**form(run), "timestamp": "yesterday"})
    if not 400 <= page.status_code < 500:
        raise Failed(f"it was answered {page.status_code}; expected 403")


@check(
    "sso.replay",
    "the same form a second time is a 403",
    "Within its five minutes a form that was seen by others would open a second session.",
)
def replay(run: Run) -> None:
    fields = form(run)
    require_login(run, fields)
    require_403(run, fields, "the same form again")


@check(
    "sso.other-user",
    "a user-scoped token with another email or user is a 403",
    "It would let a collaborator be the owner.",
)
def other_user(run: Run) -> None:
    for field, value in (("email", "owner@example.com"), ("user_id", "0" * 36)):
        fields = with_only(form(run), "user_scoped_resource_token")
        require_403(run, {**fields, field: value}, f"another {field}")


@check(
    "sso.other-resource",
    "a token of another resource is a 403",
    "It would let any customer be any other.",
)
def other_resource(run: Run) -> None:
    victim, other = resource_of(run), run.provision()
    ids = {"resource_id": victim.uuid, "id": str(victim.provider_id)}
    require_403(run, {**form(run, resource=other), **ids}, "another resource's token")


@check(
    "sso.deprovisioned",
    "a login to a deprovisioned resource is a 403, 404 or 410",
    "What was deleted is not to be seen any more.",
)
def deprovisioned(run: Run) -> None:
    resource_of(run)  # skips where there is no SSO
    gone = run.provision()
    run.deprovision(gone.uuid)
    page = log_in(run, form(run, resource=gone))
    if page.status_code not in {403, 404, 410}:
        raise Failed(f"it was answered {page.status_code}; expected 403")
