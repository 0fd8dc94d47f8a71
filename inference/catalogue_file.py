"""The catalogue's file: TOML tables read into values; errors name the line and the key."""

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from django.conf import settings

T = TypeVar("T", bound=msgspec.Struct)

# How msgspec says where a value is: the keys from the table down.
_PLACE = re.compile(r"(?P<problem>.*) - at `(?P<place>[^`]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<key>.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`")


class InvalidCatalogue(Exception):
    """The file cannot be used; the text names the file, the line and the key."""


class Contradiction(ValueError):
    """A value that cannot be right beside the others of its table, or in itself."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key} {problem}")
        self.key = key


def read_tables(path: Path, name: str, kind: type[T]) -> dict[str, T]:
    """The `[[name]]` tables of the file as values of `kind`, by their ids, in the file's order.

    `kind` may raise Contradiction. Raises InvalidCatalogue.
    """
    shown = _shown(path)
    try:
        text = path.read_text()
        tables = _tables(text, name)
    except OSError as error:
        raise InvalidCatalogue(f"{shown} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError, which names the line, or bytes of no UTF-8
        raise InvalidCatalogue(f"{shown}: {error}") from error
    values: dict[str, T] = {}
    for index, table in enumerate(tables):
        try:
            value = msgspec.convert(table, kind)
            _add(values, value)
        except (msgspec.ValidationError, Contradiction) as error:
            keys, problem = _explain(error, table, kind)
            line = _find_line(text, name, index, keys)
            entry = _entry(name, table)
            raise InvalidCatalogue(f"{shown}, line {line}: {entry}{problem}") from None
    return values


def _tables(text: str, name: str) -> list[Any]:
    document = tomllib.loads(text)
    tables = document.pop(name, [])
    if document:
        raise ValueError(f"{next(iter(document))} is no key of the file: it has [[{name}]] only")
    if not isinstance(tables, list):
        raise ValueError(f"{name} must be written as [[{name}]]")
    return tables


def _add(values: dict[str, T], value: T) -> None:
    id_: str = value.id  # type: ignore[attr-defined]
    if id_ in values:
        raise Contradiction("id", "is that of an entry above: each has one of its own")
    values[id_] = value


def _shown(path: Path) -> str:
    base = Path(settings.BASE_DIR)
    return str(path.relative_to(base) if path.is_relative_to(base) else path)


def _entry(name: str, table: Any) -> str:
    id_ = table.get("id") if isinstance(table, dict) else None
    return f'{name} "{id_}": ' if isinstance(id_, str) else ""


def _explain(error: Exception, table: Any, kind: type[T]) -> tuple[list[str], str]:
    """The keys, from the table down, of what is wrong, and a sentence that names it."""
    cause = error.__cause__ if isinstance(error.__cause__, Contradiction) else error
    if isinstance(cause, Contradiction):
        return cause.key.split("."), str(cause)
    match = _PLACE.fullmatch(str(error))
    problem, place = match.group("problem", "place") if match else (str(error), "$")
    keys = re.sub(r"\[[^]]*\]", "", place).split(".")[1:]
    if missing := _MISSING.fullmatch(problem):
        return keys, f"{'.'.join([*keys, missing['key']])} is missing"
    if unknown := _UNKNOWN.fullmatch(problem):
        keys.append(unknown["key"])
        close = get_close_matches(unknown["key"], kind.__struct_fields__, 1)
        hint = f": did you mean {close[0]}?" if close and len(keys) == 1 else ""
        return keys, f"{'.'.join(keys)} is not a key of an entry{hint}"
    choices = _choices(get_type_hints(kind).get(keys[0])) if len(keys) == 1 else ()
    if choices:
        wanted = ", ".join(choices)
        return keys, f'{keys[0]} must be one of {wanted}, not "{table[keys[0]]}"'
    return keys, f"{'.'.join(keys) or 'the entry'}: {problem[:1].lower()}{problem[1:]}"


def _choices(hint: Any) -> tuple[str, ...]:
    """The values that a field of a Literal type may have."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next(filter(None, map(_choices, get_args(hint))), ())


def _find_line(text: str, name: str, index: int, keys: list[str]) -> int:
    """The line of the last of `keys` that is found in the index-th table; else of its header."""
    lines = text.splitlines()
    headers = [i for i, line in enumerate(lines) if re.match(rf"\s*\[\[\s*{name}\s*\]\]", line)]
    if index >= len(headers):  # written as an array of inline tables
        return next(i + 1 for i, line in enumerate(lines) if re.match(rf"\s*{name}\b", line))
    start, stop = headers[index], [*headers, len(lines)][index + 1]
    for key in reversed(keys):
        pattern = re.compile(rf"\s*(\[\s*{name}\.)?[\"']?{re.escape(key)}[\"']?\s*[]=.]")
        found = [i for i in range(start + 1, stop) if pattern.match(lines[i])]
        if found:
            return found[0] + 1
    return start + 1
