"""What requests about accounts say, read once into values. Errors name the field."""

import re

from addon.json_api import InvalidField, Json, find_text, read_object
from addon.platform.authorizations import NewAuthorization
from addon.platform.scopes import Scope, parse_scopes

DESCRIPTION_MAX = 200
NAME_MAX = 200
# Heroku's own words for one that was not described.
DESCRIPTION = "Long-lived user authorization"
LOGIN_DESCRIPTION = "Heroku CLI login"
EXPIRES_IN_MAX_S = 10 * 365 * 24 * 3_600


def read_new_authorization(data: object) -> NewAuthorization:
    """Raises InvalidField, InvalidScope."""
    body = read_object(data)
    _refuse_client(body)
    return NewAuthorization(
        description=find_text(body, "description", DESCRIPTION_MAX) or DESCRIPTION,
        scopes=_scopes(body),
        expires_in_s=_expires_in_s(body),
    )


def read_description(data: object) -> str | None:
    """None when it shall stay."""
    body = read_object(data)
    _refuse_client(body)
    return find_text(body, "description", DESCRIPTION_MAX)


def read_login_description(data: object) -> str:
    return find_text(read_object(data), "description", DESCRIPTION_MAX) or LOGIN_DESCRIPTION


def find_name(data: object) -> str | None:
    """None when it shall stay; "" for none."""
    body = read_object(data)
    for field in ("allow_tracking", "beta"):
        if body.get(field, False) is not False:
            raise InvalidField(f"{field} must be false or absent: there is no such thing here")
    if "name" not in body:
        return None
    return find_text(body, "name", NAME_MAX) or ""


def read_is_read(data: object) -> bool:
    is_read = read_object(data).get("read")
    if not isinstance(is_read, bool):
        raise InvalidField("read must be true or false")
    return is_read


def _scopes(body: Json) -> tuple[Scope, ...]:
    names = body.get("scope")
    if names is None:
        return (Scope.GLOBAL,)
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise InvalidField(f"scope must be a list of one or more of {', '.join(Scope)}")
    return parse_scopes(names)


def _expires_in_s(body: Json) -> int | None:
    """The CLI sends what was typed, so digits in a string are a number as well."""
    value = body.get("expires_in")
    if value is None:
        return None
    is_digits = isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value, re.ASCII)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    seconds = int(str(value)) if is_digits or is_number else 0
    if not 1 <= seconds <= EXPIRES_IN_MAX_S:
        raise InvalidField(f"expires_in must be null or from 1 to {EXPIRES_IN_MAX_S} seconds")
    return seconds


def _refuse_client(body: Json) -> None:
    if body.get("client") is not None:
        raise InvalidField("client must be absent: there are no OAuth clients here")
