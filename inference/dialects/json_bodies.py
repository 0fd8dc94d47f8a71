"""JSON bodies: decoded within bounds, and their fields read one by one.

Every refusal names the field and what is allowed. A null counts as absent.
"""

from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import Any

import msgspec

# An error quotes what was sent, but not all of it.
SHOWN_MAX_CHARACTERS = 50
SHOWN_MAX_NAMES = 5

# A value takes two bytes to send and up to a hundred to hold, and nothing else is served meanwhile.
LARGE_BODY_BYTES = 100_000
MAX_STRINGS = 10_000
MAX_LISTS = 10_000
MAX_VALUES = 1_000_000


class InvalidRequest(Exception):
    """The body cannot be served; `message` says what is allowed, `field` names what is wrong."""

    def __init__(self, message: str, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.code = code


def decode_fields(body: bytes, large: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of the JSON object in `body`, without those that are null. The content type is
    not asked: the documented curl call posts JSON as a form.

    `large` has the parameters with their types; a large body is decoded by it, so that decoding
    ends at the first value of another type. Raises InvalidRequest.
    """
    try:
        body = body.removeprefix(BOM_UTF8)
        is_large = len(body) > LARGE_BODY_BYTES
        fields = _large_fields(body, large) if is_large else msgspec.json.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body is not such a request: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise InvalidRequest(f"The body must be a JSON object, not {kind_of(fields)}.")
    return {name: value for name, value in fields.items() if value is not None}


class _Named(msgspec.Struct):
    model: str | None = None


def find_model_id(body: bytes) -> str | None:
    """The model that a body names, whatever else is wrong with it."""
    try:
        return msgspec.json.decode(body.removeprefix(BOM_UTF8), type=_Named).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _large_fields(body: bytes, schema: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of a large body. Errors are less exact than those about a small body."""
    _check_values(body)
    names = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    known = msgspec.structs.asdict(msgspec.json.decode(body, type=schema))
    # Other parameters are refused by name, or ignored: their values are never made.
    return {name: known.get(name, name) for name, raw in names.items() if bytes(raw) != b"null"}


def _check_values(body: bytes) -> None:
    """Raise InvalidRequest where `body` has more values than a request, before they are made.

    Each step is one search through the bytes: a pattern for strings takes ten times as long, and
    nothing else is served meanwhile.
    """
    # Backslashes first, so that one before a quote escapes it.
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    if plain.count(b'"') > 2 * MAX_STRINGS:
        raise InvalidRequest(f"The body must hold at most {MAX_STRINGS} strings.")
    outside = b"".join(plain.split(b'"')[::2])
    if outside.count(b"[") > MAX_LISTS:
        raise InvalidRequest(f"The body must hold at most {MAX_LISTS} lists.")
    if outside.count(b",") > MAX_VALUES:
        raise InvalidRequest(f"The body must hold at most {MAX_VALUES} values.")


def refuse_unknown(fields: dict[str, Any], allowed: Sequence[str]) -> None:
    """Raise InvalidRequest where there are fields that are not among `allowed`."""
    unknown = [name[:SHOWN_MAX_CHARACTERS] for name in fields if name not in allowed]
    if unknown:
        names = ", ".join(repr(name) for name in unknown[:SHOWN_MAX_NAMES])
        raise InvalidRequest(
            f"Unknown parameter: {names}. Allowed: {', '.join(allowed)}.",
            unknown[0],
            "unknown_parameter",
        )


def required(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise InvalidRequest(f"'{name}' is required.", name, "missing_required_parameter")
    return fields[name]


def required_string(fields: dict[str, Any], name: str) -> str:
    value = required(fields, name)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"'{name}' must be a non-empty string, not {kind_of(value)}.", name)
    return value


def choice(fields: dict[str, Any], name: str, allowed: Sequence[str], default: str) -> str:
    value = fields.get(name, default)
    if value not in allowed:
        raise InvalidRequest(
            f"'{name}' must be one of {', '.join(allowed)}, not {shown(value)}.", name
        )
    return str(value)


def choices(
    fields: dict[str, Any], name: str, allowed: Sequence[str], default: str
) -> tuple[str, ...]:
    """One of `allowed`, or a list of some; each once, in the order given."""
    value = fields.get(name, default)
    if not isinstance(value, list):
        return (choice(fields, name, allowed, default),)
    if not value:
        raise InvalidRequest(f"'{name}' must hold at least one of {', '.join(allowed)}.", name)
    for index, item in enumerate(value[: len(allowed) + 1]):
        if item not in allowed:
            raise InvalidRequest(
                f"'{name}[{index}]' must be one of {', '.join(allowed)}, not {shown(item)}.",
                f"{name}[{index}]",
            )
    if len(value) != len(set(value)):
        raise InvalidRequest(f"'{name}' must name each type once.", name)
    return tuple(value)


def integer(fields: dict[str, Any], name: str, minimum: int) -> int | None:
    """A whole number of at least `minimum`, or None where it is not given."""
    value = fields.get(name)
    if value is None:
        return None
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or value < minimum:
        said = str(value)[:SHOWN_MAX_CHARACTERS] if is_integer else kind_of(value)
        raise InvalidRequest(
            f"'{name}' must be an integer of at least {minimum}, not {said}.", name
        )
    return int(value)


def boolean(fields: dict[str, Any], name: str) -> bool:
    """False where it is not given."""
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"'{name}' must be true or false, not {kind_of(value)}.", name)
    return value


def check_text(text: Any, place: str) -> str:
    """The string at `place`. Raises InvalidRequest if it is none, empty, or holds a NUL."""
    if not isinstance(text, str):
        raise InvalidRequest(f"'{place}' must be a string, not {kind_of(text)}.", place)
    if not text:
        raise InvalidRequest(f"'{place}' must not be an empty string.", place)
    if "\0" in text:
        raise InvalidRequest(f"'{place}' must not hold the character NUL (U+0000).", place)
    return text


def kind_of(value: Any) -> str:
    """JSON's name for the type of a decoded value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string" if value else "an empty string"
        case list():
            return "a list"
        case _:
            return "an object"


def shown(value: Any) -> str:
    return repr(value[:SHOWN_MAX_CHARACTERS]) if isinstance(value, str) else kind_of(value)
