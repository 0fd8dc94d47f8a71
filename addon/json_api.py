"""What both JSON APIs share: answer JSON whatever is asked for, and read fields of a body.

The heroku CLI accepts `application/vnd.heroku+json; version=3` and other words after the 3, kensa
plain `application/json`, curl `*/*`. None of them is ever answered 406.
"""

import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

logger = logging.getLogger(__name__)

Json = Mapping[str, object]

BODY_MAX_BYTES = 5_000_000
OPTION_NAME_MAX_CHARACTERS = 100
OPTION_MAX_CHARACTERS = 10_000


def unavailable(error: Exception) -> Response | None:
    """The answer when the database or Redis cannot be reached; their words are for the log only."""
    if not isinstance(error, OperationalError | InterfaceError | RedisError):
        return None
    logger.error("the database or Redis cannot be reached", exc_info=error)
    message = "The service is not available at the moment. Please try again."
    body = {"id": "service_unavailable", "message": message}
    return Response(body, status=503, headers={"Retry-After": "5"})


class AlwaysJson(BaseContentNegotiation):
    """Takes the first parser and the first renderer, without a look at the headers."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        return next(iter(renderers)), "application/json"


class StrictJsonParser(BaseParser):
    """JSON by any content type; what PostgreSQL cannot store as text is refused here."""

    media_type = "*/*"

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        received: bytes = stream.read(BODY_MAX_BYTES + 1)
        if len(received) > BODY_MAX_BYTES:
            raise ParseError(f"The body can have at most {BODY_MAX_BYTES} bytes")
        try:
            data: dict[str, Any] = json.loads(received.decode(), parse_constant=_refuse_constant)
            _refuse_unstorable_text(data)
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {error}") from None
        except RecursionError:
            raise ParseError("The JSON is nested too deeply") from None
        return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _refuse_unstorable_text(value: object) -> None:
    match value:
        case str():
            if not is_storable(value):
                raise ParseError("The JSON has a NUL character or half a surrogate pair in a text")
        case dict():
            for name, inner in value.items():
                _refuse_unstorable_text(name)
                _refuse_unstorable_text(inner)
        case list():
            for inner in value:
                _refuse_unstorable_text(inner)
        case _:
            pass  # numbers, true, false and null are always fine


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can store, and so could ever have stored, this text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


class InvalidField(Exception):
    """A field of a body has a value that is not allowed; the text names it and what is."""


def read_object(data: object) -> Json:
    """The body as an object. An absent body is an empty one. Raises ParseError."""
    if data is None or data == "":
        return {}
    if not isinstance(data, Mapping):
        raise ParseError("The body must be a JSON object")
    return data


def read_text(body: Json, field: str, max_characters: int = 2000) -> str:
    """Raises InvalidField when `field` is absent, no string, empty or too long."""
    text = find_text(body, field, max_characters)
    if not text:
        raise InvalidField(f"{field} must be a string of 1 to {max_characters} characters")
    return text


def find_text(body: Json, field: str, max_characters: int = 2000) -> str | None:
    """None when `field` is absent or null. Raises InvalidField when it is no string or too long."""
    value = body.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > max_characters:
        raise InvalidField(f"{field} must be a string of at most {max_characters} characters")
    return value


def read_uuid(body: Json, field: str) -> uuid.UUID:
    """Raises InvalidField when `field` is absent or no UUID."""
    value = body.get(field)
    parsed = find_uuid(value) if isinstance(value, str) else None
    if parsed is None:
        raise InvalidField(f"{field} must be a UUID")
    return parsed


def find_uuid(text: str) -> uuid.UUID | None:
    """The UUID that `text` spells with dashes, in either case; None when it spells none."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return None
    # uuid.UUID also takes braces, urn: and no dashes; a name could look like that.
    return parsed if str(parsed) == text.lower() else None


def read_options(body: Json, field: str, max_options: int = 100) -> dict[str, str]:
    """An object of strings; `true` becomes "true", as `--flag` of the CLI sends it."""
    value = body.get(field)
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > max_options:
        raise InvalidField(f"{field} must be an object of at most {max_options} options")
    return {name: _option(field, name, option) for name, option in value.items()}


def _option(field: str, name: str, option: object) -> str:
    if len(name) > OPTION_NAME_MAX_CHARACTERS:
        raise InvalidField(
            f"{field}: the name of an option must have at most {OPTION_NAME_MAX_CHARACTERS} "
            "characters"
        )
    if isinstance(option, bool):
        return "true" if option else "false"
    if not isinstance(option, str) or len(option) > OPTION_MAX_CHARACTERS:
        raise InvalidField(
            f"{field}.{name} must be a string of at most {OPTION_MAX_CHARACTERS} characters, or "
            "true"
        )
    return option


def iso(moment: datetime) -> str:
    """2026-11-01T10:00:00Z"""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)
