"""`GET /v1/usage`: what was used, by hour or day.

An attachment's key reads the usage of that attachment, an account's access token that of all that
the account pays for.
"""

import asyncio
import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from urllib.parse import parse_qs
from uuid import UUID

from django.db import Error as DatabaseError
from django.utils import timezone

from addon.platform.authorizations import find_authorization
from addon.provider.credentials import is_well_formed
from billing.spreadsheets import text_cell
from billing.usage_reports import (
    DIMENSIONS,
    Granularity,
    InvalidCursor,
    Query,
    Report,
    Row,
    ceil_to_bucket,
    floor_to_bucket,
    read_report,
)
from inference.authentication import (
    LOOK_UP_TIMEOUT_S,
    InvalidKey,
    KeysUnavailable,
    MissingKey,
    authenticate,
)
from inference.database import run_in_database_thread
from inference.dialects.json_bodies import SHOWN_MAX_CHARACTERS, InvalidRequest, refuse_unknown
from inference.http import Response, find_header, json_response
from inference.views import Request

PARAMETERS = (
    "start_time",
    "end_time",
    "bucket_width",
    "group_by",
    "model",
    "attachment",
    "app",
    "limit",
    "page",
    "format",
)
BUCKET_WIDTHS: dict[str, Granularity] = {"1h": "hour", "1d": "day"}
FORMATS = ("json", "csv")
DEFAULT_SPANS: dict[Granularity, timedelta] = {"hour": timedelta(days=1), "day": timedelta(days=30)}
MAX_SPANS: dict[Granularity, timedelta] = {"hour": timedelta(days=31), "day": timedelta(days=366)}
DEFAULT_LIMIT = 1_000
MAX_LIMIT = 10_000
FILTER_MAX_VALUES = 100
READ_TIMEOUT_S = 15.0
NAMES = {*DIMENSIONS, "attachment_name"}
MICROUNITS = Decimal(10) ** -6  # of a picounit


async def get_usage(request: Request) -> Response:
    """Raises MissingKey, InvalidKey, KeysUnavailable, InvalidRequest."""
    owner = await _find_owner(find_header(request.scope, b"authorization"))
    parameters = _read_parameters(request.scope["query_string"])
    query = _read_query(parameters, owner, timezone.now())
    is_csv = _is_csv(parameters, find_header(request.scope, b"accept"))
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            report = await run_in_database_thread(read_report, query)
    except InvalidCursor as error:
        raise InvalidRequest(f"'page' is not a page of this report: {error}.", "page") from error
    except (DatabaseError, TimeoutError) as error:
        raise KeysUnavailable("the sums cannot be read") from error
    return _csv_response(query, report) if is_csv else json_response(_describe(query, report))


def _bearer(authorization: str | None) -> str:
    """Raises MissingKey."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise MissingKey
    return token.strip()


async def _find_owner(authorization: str | None) -> dict[str, UUID]:
    """The field of a Query that says whose usage it is: by an attachment's key or by an account's
    access token. Raises MissingKey, InvalidKey, KeysUnavailable."""
    token = _bearer(authorization)
    if is_well_formed(token):
        caller = await authenticate(authorization)
        return {"attachment_id": caller.identity.attachment_id}
    try:
        async with asyncio.timeout(LOOK_UP_TIMEOUT_S):
            found = await run_in_database_thread(find_authorization, token, timezone.now())
    except (DatabaseError, TimeoutError) as error:
        raise KeysUnavailable("the database cannot be reached") from error
    if found is None:
        raise InvalidKey
    return {"customer_id": found.account_id}


def _read_parameters(query_string: bytes) -> dict[str, list[str]]:
    """The values of each parameter, repeated or separated by commas. Raises InvalidRequest."""
    try:
        given = parse_qs(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
    except (ValueError, UnicodeDecodeError):
        raise InvalidRequest("The query string is not valid UTF-8.") from None
    # OpenAI's clients write lists as group_by[]=….
    parameters: dict[str, list[str]] = {}
    for name, values in given.items():
        parameters.setdefault(name.removesuffix("[]"), []).extend(values)
    refuse_unknown(parameters, PARAMETERS)
    for name, values in parameters.items():
        if any("\0" in value for value in values):
            raise InvalidRequest(f"'{name}' must not hold the character NUL (U+0000).", name)
    return parameters


def _read_query(parameters: dict[str, list[str]], owner: dict[str, UUID], now: datetime) -> Query:
    """Raises InvalidRequest."""
    width = _one_of(parameters, "bucket_width", tuple(BUCKET_WIDTHS), "1d")
    granularity = BUCKET_WIDTHS[width]
    end_at = ceil_to_bucket(_time(parameters, "end_time") or now, granularity)
    start_time = _time(parameters, "start_time") or end_at - DEFAULT_SPANS[granularity]
    start_at = floor_to_bucket(start_time, granularity)
    if start_at >= end_at:
        raise InvalidRequest("'start_time' must be before 'end_time'.", "start_time")
    if end_at - start_at > MAX_SPANS[granularity]:
        days = MAX_SPANS[granularity].days
        raise InvalidRequest(
            f"'start_time' must be at most {days} days before 'end_time' with buckets of {width}.",
            "start_time",
        )
    return Query(
        **cast(dict[str, Any], owner),
        granularity=granularity,
        start_at=start_at,
        end_at=end_at,
        group_by=_group_by(parameters),
        models=_filter(parameters, "model"),
        attachments=_filter(parameters, "attachment"),
        apps=_filter(parameters, "app"),
        limit=_limit(parameters),
        cursor=_single(parameters, "page") or "",
    )


def _single(parameters: dict[str, list[str]], name: str) -> str | None:
    values = parameters.get(name, [])
    if len(values) > 1:
        raise InvalidRequest(f"'{name}' must be given once.", name)
    return values[0] if values and values[0] else None


def _one_of(
    parameters: dict[str, list[str]], name: str, allowed: Sequence[str], default: str
) -> str:
    value = _single(parameters, name) or default
    if value not in allowed:
        said = repr(value[:SHOWN_MAX_CHARACTERS])
        raise InvalidRequest(f"'{name}' must be one of {', '.join(allowed)}, not {said}.", name)
    return value


def _time(parameters: dict[str, list[str]], name: str) -> datetime | None:
    """ISO 8601, in UTC where it has no offset; or seconds since 1970. Raises InvalidRequest."""
    value = _single(parameters, name)
    if value is None:
        return None
    try:
        if value.isascii() and value.isdigit():
            at = datetime.fromtimestamp(int(value), UTC)
        else:
            # An unescaped + of an offset arrives as a space.
            at = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        at = None
    if at is None or not 1970 <= at.year <= 9000:
        said = repr(value[:SHOWN_MAX_CHARACTERS])
        raise InvalidRequest(
            f"'{name}' must be a time such as 2026-11-01T00:00:00Z, a date, or seconds since 1970, "
            f"not {said}.",
            name,
        )
    return at


def _group_by(parameters: dict[str, list[str]]) -> tuple[str, ...]:
    """Each once, in the order given."""
    names = tuple(dict.fromkeys(_split(parameters, "group_by")))
    for name in names:
        if name not in DIMENSIONS:
            said = repr(name[:SHOWN_MAX_CHARACTERS])
            raise InvalidRequest(
                f"'group_by' must be some of {', '.join(DIMENSIONS)}, not {said}.", "group_by"
            )
    return names


def _filter(parameters: dict[str, list[str]], name: str) -> tuple[str, ...]:
    values = tuple(_split(parameters, name))
    if len(values) > FILTER_MAX_VALUES:
        raise InvalidRequest(f"'{name}' must have at most {FILTER_MAX_VALUES} values.", name)
    return values


def _split(parameters: dict[str, list[str]], name: str) -> list[str]:
    return [part for value in parameters.get(name, []) for part in value.split(",") if part]


def _limit(parameters: dict[str, list[str]]) -> int:
    value = _single(parameters, "limit")
    if value is None:
        return DEFAULT_LIMIT
    is_number = value.isascii() and value.isdigit() and len(value) <= SHOWN_MAX_CHARACTERS
    if not is_number or not 1 <= int(value) <= MAX_LIMIT:
        said = repr(value[:SHOWN_MAX_CHARACTERS])
        raise InvalidRequest(f"'limit' must be from 1 to {MAX_LIMIT}, not {said}.", "limit")
    return int(value)


def _is_csv(parameters: dict[str, list[str]], accept: str | None) -> bool:
    """By `format`, and without it by what the client would rather have."""
    default = "csv" if "text/csv" in (accept or "") else "json"
    return _one_of(parameters, "format", FORMATS, default) == "csv"


def _describe(query: Query, report: Report) -> dict[str, object]:
    return {
        "object": "page",
        "start_time": _print_time(query.start_at),
        "end_time": _print_time(query.end_at),
        "bucket_width": f"1{query.granularity[0]}",
        "data": [_describe_row(row) for row in report.rows],
        "has_more": bool(report.next_cursor),
        "next_page": report.next_cursor or None,
    }


def _describe_row(row: Row) -> dict[str, object]:
    """Amounts of money are strings: they are exact, and JSON's numbers are not."""
    names = {"attachment_name": row.attachment_name} if "attachment" in row.groups else {}
    return {
        "object": "usage",
        "start_time": _print_time(row.start_at),
        "end_time": _print_time(row.end_at),
        **row.groups,
        **names,
        "requests": row.requests,
        "inputs": row.inputs,
        "text_tokens": row.text_tokens,
        "image_tokens": row.image_tokens,
        "total_tokens": row.text_tokens + row.image_tokens,
        "currency": row.currency,
        "cost_microunits": print_microunits(row.cost_picounits),
    }


def print_microunits(picounits: int) -> str:
    """Exact, with six places."""
    return f"{(picounits * MICROUNITS).quantize(MICROUNITS):f}"


def _print_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _csv_response(query: Query, report: Report) -> Response:
    """The columns of the JSON's rows. The next page is in a header."""
    columns = [
        "start_time",
        "end_time",
        *query.group_by,
        *(["attachment_name"] if "attachment" in query.group_by else []),
        "requests",
        "inputs",
        "text_tokens",
        "image_tokens",
        "total_tokens",
        "currency",
        "cost_microunits",
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    for row in report.rows:
        described = _describe_row(row)
        names = {name: text_cell(str(described[name])) for name in described if name in NAMES}
        writer.writerow(described | names)
    headers = {
        "content-type": "text/csv; charset=utf-8",
        "content-disposition": 'attachment; filename="usage.csv"',
    }
    if report.next_cursor:
        headers["x-next-page"] = report.next_cursor
    return Response(body=text.getvalue().encode(), headers=headers)
