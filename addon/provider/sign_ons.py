"""Single sign-on at the provider: whether a platform has signed the form that a browser posts.

A form may have three tokens. The strongest that is there decides; where that is wrong no other is
looked at. A form counts once, within five minutes of its timestamp on either side.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from addon.json_api import find_uuid
from addon.redis_client import redis_client
from addon.single_sign_on import resource_token, user_scoped_resource_token

WINDOW_S = 300
TEXT_MAX_CHARACTERS = 320
ALONE, WITH_STRONG = b"alone", b"with a strong one"  # how a weak token was used up

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_NAV_DATA = re.compile(r"[A-Za-z0-9_-]{1,3000}")


class NoSingleSignOn(Exception):
    def __init__(self) -> None:
        super().__init__("This provider has no single sign-on: its operator has set no SSO_SALT")


class InvalidSignOn(Exception):
    """The form is not one that the platform has signed, or is not valid now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SignOn:
    """Who comes, and to which resource; `app` is where from. All but the id may be empty.

    `nav_data` is for a cookie, and only what needs no quoting there.
    """

    resource_id: UUID
    user_id: str
    email: str
    app: str
    nav_data: str


def verify(form: Mapping[str, str], now: datetime) -> SignOn:
    """What the form says, once. Raises InvalidSignOn, NoSingleSignOn."""
    if not settings.SSO_SALT:
        raise NoSingleSignOn
    timestamp = form.get("timestamp", "")
    resource, expected, given = _strongest(form, timestamp)
    # Before anything else is looked at: who cannot sign learns nothing, not even from the time.
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise InvalidSignOn("its token is wrong")
    if not _TIMESTAMP.fullmatch(timestamp) or abs(now.timestamp() - int(timestamp)) > WINDOW_S:
        raise InvalidSignOn("it is older than five minutes, or from the future")
    resource_id = find_uuid(resource)
    if resource_id is None:
        raise InvalidSignOn("it names no resource")
    _use_up(expected, resource_token(resource, settings.SSO_SALT, timestamp), int(timestamp), now)
    nav_data = form.get("nav-data", "")
    return SignOn(
        resource_id=resource_id,
        user_id=_shown(form.get("user_id", "")),
        email=_shown(form.get("email", "")),
        app=_shown(form.get("context_app", "") or form.get("app", "")),
        nav_data=nav_data if _NAV_DATA.fullmatch(nav_data) else "",
    )


def _strongest(form: Mapping[str, str], timestamp: str) -> tuple[str, str, str]:
    """The resource that the strongest token is of, what that should be, and what it is."""
    salt = settings.SSO_SALT
    resource = form.get("resource_id", "")
    if "user_scoped_resource_token" in form:
        user = form.get("user_id", ""), form.get("email", "")
        expected = user_scoped_resource_token(resource, salt, timestamp, *user)
        return resource, expected, form["user_scoped_resource_token"]
    if "resource_token" in form:
        return resource, resource_token(resource, salt, timestamp), form["resource_token"]
    resource = form.get("id", "")  # of version 1, whose token says nothing of resource_id
    return resource, resource_token(resource, salt, timestamp), form.get("token", "")


def _use_up(token: str, weak_token: str, timestamp: int, now: datetime) -> None:
    """Raises InvalidSignOn when the form was used before.

    The weak token of the moment is used up too: else whoever has seen a form could leave the strong
    one out and come again. Nor does a strong one count after its weak one came alone; that it came
    with a strong one is no harm, for that may have been somebody else's.
    """
    rest_s = int(timestamp + WINDOW_S - now.timestamp()) + 2
    redis = redis_client()
    is_new = redis.set(_key(token), ALONE, nx=True, ex=rest_s)
    if weak_token != token:
        before = redis.set(_key(weak_token), WITH_STRONG, nx=True, get=True, ex=rest_s)
        is_new = is_new and before != ALONE
    if not is_new:
        raise InvalidSignOn("it was used before")


def _key(token: str) -> str:
    return f"provider:sign_on:{token}"


def _shown(text: str) -> str:
    """What a platform wrote, as far as a page shows it."""
    return "".join(filter(str.isprintable, text))[:TEXT_MAX_CHARACTERS]
