"""Request bodies of webhooks, read once into values. Errors name the field."""

from collections.abc import Callable
from functools import partial

from addon.json_api import InvalidField, Json, find_text, read_object, read_text
from addon.platform.models import DeliveryStatus
from addon.platform.webhooks import INCLUDES, INCLUDES_OF_AN_ADDON, LEVELS, NewWebhook, Subject
from billing.webhooks import InvalidURL, check_url

SECRET_MAX_CHARACTERS = 500
AUTHORIZATION_MAX_CHARACTERS = 1000


def read_new_webhook(subject: Subject, data: object) -> NewWebhook:
    body = read_object(data)
    return NewWebhook(
        include=_read_include(subject, body),
        level=_read_level(body),
        url=_read_url(body),
        secret=_find_secret(body),
        authorization=_read_authorization(body),
    )


def read_webhook_changes(subject: Subject, data: object) -> dict[str, object]:
    """By field, what is given. A `secret` of null changes nothing; an `authorization` of null
    is taken away."""
    body = read_object(data)
    readers: dict[str, Callable[[Json], object]] = {
        "include": partial(_read_include, subject),
        "level": _read_level,
        "url": _read_url,
        "authorization": _read_authorization,
    }
    changes: dict[str, object] = {
        field: read(body) for field, read in readers.items() if field in body
    }
    secret = _find_secret(body)
    return changes if secret is None else {**changes, "secret": secret}


def read_status(wanted: str | None) -> str | None:
    """Of a list of deliveries: `?eq[status]=failed`."""
    if wanted is not None and wanted not in DeliveryStatus.values:
        raise InvalidField(f"eq[status] must be one of: {', '.join(DeliveryStatus.values)}")
    return wanted


def _read_include(subject: Subject, body: Json) -> list[str]:
    allowed = INCLUDES if subject.addon is None else INCLUDES_OF_AN_ADDON
    include = body.get("include")
    kinds = include if isinstance(include, list) else []
    if not kinds or not all(kind in allowed for kind in kinds):
        raise InvalidField(f"include must be a list of one or more of: {', '.join(allowed)}")
    return list(dict.fromkeys(kinds))


def _read_level(body: Json) -> str:
    level = body.get("level")
    if not isinstance(level, str) or level not in LEVELS:
        raise InvalidField(f"level must be one of: {', '.join(LEVELS)}")
    return level


def _read_url(body: Json) -> str:
    url = read_text(body, "url")
    try:
        check_url(url)
    except InvalidURL as error:
        raise InvalidField(f"url {error}") from None
    return url


def _find_secret(body: Json) -> str | None:
    if body.get("secret") is None:
        return None
    return read_text(body, "secret", SECRET_MAX_CHARACTERS)


def _read_authorization(body: Json) -> str:
    text = find_text(body, "authorization", AUTHORIZATION_MAX_CHARACTERS) or ""
    if not (text.isascii() and text.isprintable() and text == text.strip()):
        raise InvalidField(
            f"authorization must be at most {AUTHORIZATION_MAX_CHARACTERS} printable ASCII "
            "characters, without blanks around them"
        )
    return text
