"""Ranges: how a list is asked for a page at a time, and in which order.

`Range: name ..; order=desc,max=10` asks for the first ten by name from the end. An answer that is
cut says in Next-Range what to ask for next; the heroku CLI follows it by itself. A page starts
behind the last row of the page before, and not at a number, so rows that are added or removed
meanwhile neither repeat nor hide others.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from addon.json_api import is_storable

MAX_DEFAULT = 200
MAX = 1000

# Nothing is tried twice: a header of many dots would otherwise keep the process busy for minutes.
_RANGE = re.compile(r"(\w+)\s++(\]?+)((?:(?!\.\.)[^\s;])*+)\.\.([^\s;]*+)\s*+(?:;(.*))?", re.ASCII)
# Between the value of a row and its id, where several rows may have that value.
_TIE = "~"

Answer = dict[str, object]
Row = TypeVar("Row", bound=Model)


class InvalidRange(Exception):
    """The Range header asks for something that the list cannot be asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """From `first` on, up to and with `last`, in the direction of the order; "" is an open end."""

    property: str
    first: str = ""
    is_first_excluded: bool = False
    last: str = ""
    max: int = MAX_DEFAULT
    is_descending: bool = False


def answer(
    request: Request,
    rows: QuerySet[Row],
    *,
    sortable: Mapping[str, str],
    default: str,
    to_json: Callable[[Sequence[Row]], Sequence[Answer]],
    unique: Collection[str] = ("id",),
    is_descending: bool = False,
) -> Response:
    """The page of `rows` that the request's Range asks for, read by one query.

    `sortable` is, by the name that a Range calls it, the path of each property that it may name,
    e.g. {"id": "id", "email": "account__email"}; `unique` are those of which no two rows have the
    same. Without a Range the order is that of `default`, from its end when `is_descending`.
    `to_json` gets the page's rows. Raises InvalidRange.
    """
    range_ = _asked(request, tuple(sortable)) or Range(
        property=default, is_descending=is_descending
    )
    path = sortable[range_.property]
    found = list(_select(rows, range_, path)[: range_.max + 1])
    page = found[: range_.max]
    text = attrgetter(path.replace("__", "."))
    is_unique = range_.property in unique
    places = [_place(text(row), None if is_unique else row.pk) for row in page[:1] + page[-1:]]
    return _answer(to_json(page), places, range_, sortable, is_cut=len(found) > len(page))


def answer_short(
    request: Request, rows: Sequence[Answer], *, sortable: Sequence[str] = ("id", "name")
) -> Response:
    """As `answer`, of a list that is short by nature: without a Range, all in its own order.

    `sortable` are fields of the answers, texts of which no two rows have the same.
    """
    range_ = _asked(request, sortable)
    if range_ is None:
        return Response(rows, headers={"Accept-Ranges": ", ".join(sortable)})
    name, is_descending = range_.property, range_.is_descending
    low, high = map(unquote, (range_.first, range_.last))
    if is_descending:
        low, high = high, low
    found = [row for row in rows if low <= str(row[name]) and (not high or str(row[name]) <= high)]
    found.sort(key=lambda row: str(row[name]), reverse=is_descending)
    if range_.is_first_excluded:
        found = [row for row in found if row[name] != unquote(range_.first)]
    page = found[: range_.max]
    places = [_place(row[name], None) for row in page[:1] + page[-1:]]
    return _answer(page, places, range_, sortable, is_cut=len(found) > len(page))


def parse_range(header: str, sortable: Collection[str]) -> Range:
    """`name ..; max=1, order=desc`, the options in either order. Raises InvalidRange."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match[1] not in sortable:
        raise InvalidRange(
            f"Range must look like: {next(iter(sortable))} ..; max=10, order=desc. This list can "
            f"be ordered by: {', '.join(sortable)}"
        )
    name, excluded, first, last, options = match.groups()
    limit, is_descending = _options(options or "")
    return Range(
        property=name,
        first=first,
        is_first_excluded=bool(excluded and first),
        last=last,
        max=limit,
        is_descending=is_descending,
    )


def _asked(request: Request, sortable: Sequence[str]) -> Range | None:
    header = request.headers.get("Range", "")
    return parse_range(header, sortable) if header else None


def _options(text: str) -> tuple[int, bool]:
    limit, is_descending = MAX_DEFAULT, False
    for option in filter(None, (part.strip() for part in text.rstrip("; ").split(","))):
        name, _, value = option.partition("=")
        if name == "order" and value in {"asc", "desc"}:
            is_descending = value == "desc"
        elif name == "max" and re.fullmatch(r"[0-9]{1,4}", value) and 1 <= int(value) <= MAX:
            limit = int(value)
        else:
            raise InvalidRange(
                f"Range can have the options max=1 to max={MAX}, order=asc and order=desc; "
                f"not {option!r}"
            )
    return limit, is_descending


def _select(rows: QuerySet[Row], range_: Range, path: str) -> QuerySet[Row]:
    sign, ahead, behind = ("-", "lt", "gt") if range_.is_descending else ("", "gt", "lt")
    ordered = rows.order_by(*dict.fromkeys([f"{sign}{path}", f"{sign}pk"]))
    if range_.first:
        value, tie = _read_place(rows.model, path, range_.property, range_.first)
        ordered = ordered.filter(**{f"{path}__{ahead}e": value})
        if range_.is_first_excluded:
            beyond = Q(**{f"{path}__{ahead}": value})
            if tie is not None:
                beyond |= Q(**{path: value, f"pk__{ahead}": tie})
            ordered = ordered.filter(beyond)
    if range_.last:
        value, _ = _read_place(rows.model, path, range_.property, range_.last)
        ordered = ordered.filter(**{f"{path}__{behind}e": value})
    return ordered


def _place(value: object, tie: object | None) -> str:
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    quoted = quote(text, safe=":@+").replace(_TIE, "%7E")
    return quoted if tie is None else f"{quoted}{_TIE}{tie}"


def _read_place(model: type[Model], path: str, name: str, text: str) -> tuple[Any, Any]:
    """The value, and the id of the row that is meant where several may have it, or None."""
    value, _, tie = text.rpartition(_TIE)
    try:
        if value:
            return _read(_field(model, path), value), _read(model._meta.pk, tie)
        return _read(_field(model, path), text), None
    except (ValidationError, ValueError, OverflowError):
        raise InvalidRange(f"Range: no {name} of this list can be {text!r}") from None


def _read(field: Any, text: str) -> Any:
    plain = unquote(text)
    if not is_storable(plain):
        raise ValueError
    value = field.to_python(plain)
    if isinstance(value, datetime):
        # PostgreSQL has no time zones beyond 16 hours.
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return value


def _field(model: type[Model], path: str) -> Any:
    *relations, name = path.split("__")
    for relation in relations:
        related: Any = model._meta.get_field(relation).related_model
        model = related
    return model._meta.get_field(name)


def _answer(
    rows: Sequence[Answer],
    places: Sequence[str],
    range_: Range,
    sortable: Collection[str],
    *,
    is_cut: bool,
) -> Response:
    headers = {"Accept-Ranges": ", ".join(sortable)}
    if places:
        first, last = places[0], places[-1]
        headers["Content-Range"] = f"{range_.property} {first}..{last}; max={range_.max}"
        if is_cut:
            order = ", order=desc" if range_.is_descending else ""
            rest = f"]{last}..{range_.last}; max={range_.max}{order}"
            headers["Next-Range"] = f"{range_.property} {rest}"
    return Response(rows, status=206 if is_cut else 200, headers=headers)
