"""Usage reports: what was used in each hour or day, read from the sums that were written with the
rows of the ledger. A report is of one attachment, or of all that a customer pays for."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from django.db import connection, transaction

from billing.metering import AMOUNTS
from billing.models import UsageSum

Granularity = Literal["hour", "day"]

WIDTHS: Mapping[Granularity, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
STATEMENT_TIMEOUT_MS = 10_000
# What a report can be grouped by: its column, and the column's type.
DIMENSIONS = {
    "model": ("model_id", "text"),
    "attachment": ("attachment_id", "uuid"),
    "app": ("app_name", "text"),
    "key": ("credential_id", "uuid"),
}


class InvalidCursor(Exception):
    """It is none of a page of this report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """`start_at` and `end_at` are bounds of buckets. An empty filter lets everything through.

    Exactly one of `customer_id` and `attachment_id` says whose usage is asked for.
    """

    customer_id: UUID | None = None
    attachment_id: UUID | None = None
    granularity: Granularity
    start_at: datetime
    end_at: datetime
    group_by: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    attachments: tuple[str, ...] = ()  # ids or names
    apps: tuple[str, ...] = ()
    limit: int
    cursor: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What was used in a bucket, in one currency; of one group each where the report has some."""

    start_at: datetime
    end_at: datetime
    groups: Mapping[str, str]
    attachment_name: str
    currency: str
    requests: int
    inputs: int
    text_tokens: int
    image_tokens: int
    cost_picounits: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Rows in the order of time, then of their groups. `next_cursor` is empty on the last page."""

    rows: Sequence[Row] = field(default_factory=tuple)
    next_cursor: str = ""


def floor_to_bucket(at: datetime, granularity: Granularity) -> datetime:
    """The start of the bucket that `at` lies in, in UTC."""
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour if granularity == "hour" else hour.replace(hour=0)


def ceil_to_bucket(at: datetime, granularity: Granularity) -> datetime:
    """The end of the bucket that `at` lies in; `at` itself where one ends there."""
    start = floor_to_bucket(at, granularity)
    return start if start == at else start + WIDTHS[granularity]


def read_report(query: Query) -> Report:
    """One page. Its buckets are those in which something was used. Raises InvalidCursor."""
    statement, parameters = _statement(query)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
        cursor.execute(statement, parameters)
        found = cursor.fetchall()
    rows = [_row(query, values) for values in found[: query.limit]]
    has_more = len(found) > query.limit
    return Report(rows=rows, next_cursor=_cursor_after(query, rows[-1]) if has_more else "")


def _statement(query: Query) -> tuple[str, dict[str, Any]]:
    """One more row than the page has, to know whether there is a next one."""
    columns = ["start_at", *(DIMENSIONS[name][0] for name in query.group_by)]
    keys = [*columns, "currency"]
    conditions, parameters = _conditions(query)
    name = "max(attachment_name)" if "attachment" in query.group_by else "''"
    sums = ", ".join(f"sum({amount})::bigint" for amount in AMOUNTS)
    return (
        f"""
        SELECT {", ".join(keys)}, {name}, {sums}
        FROM (
            SELECT usage.*, coalesce(price.currency, 'usd') AS currency
            FROM {UsageSum._meta.db_table} AS usage
            LEFT JOIN billing_price AS price ON price.id = usage.price_id
            WHERE {" AND ".join(conditions)}
        ) AS priced
        WHERE {_after(query)}
        GROUP BY {", ".join(keys)} ORDER BY {", ".join(keys)} LIMIT %(rows)s
        """,  # noqa: S608 - columns and conditions are ours, values are parameters
        {**parameters, **_cursor_parameters(query), "rows": query.limit + 1},
    )


def _conditions(query: Query) -> tuple[list[str], dict[str, Any]]:
    conditions = [
        "granularity = %(granularity)s",
        "start_at >= %(start_at)s",
        "start_at < %(end_at)s",
        "customer_id = %(owner)s" if query.attachment_id is None else "attachment_id = %(owner)s",
    ]
    filters = {
        "models": "model_id = ANY(%(models)s)",
        "attachments": "(attachment_id::text = ANY(%(attachments)s) "
        "OR attachment_name = ANY(%(attachments)s))",
        "apps": "app_name = ANY(%(apps)s)",
    }
    wanted = {name: list(getattr(query, name)) for name in filters if getattr(query, name)}
    conditions += [filters[name] for name in wanted]
    return conditions, {
        "granularity": query.granularity,
        "start_at": query.start_at,
        "end_at": query.end_at,
        "owner": query.attachment_id or query.customer_id,
        **wanted,
    }


def _after(query: Query) -> str:
    """Rows after the last one of the page before."""
    if not query.cursor:
        return "TRUE"
    types = ["timestamptz", *(DIMENSIONS[name][1] for name in query.group_by), "text"]
    names = ["start_at", *(DIMENSIONS[name][0] for name in query.group_by), "currency"]
    values = [f"%(after{index})s::{type_}" for index, type_ in enumerate(types)]
    return f"({', '.join(names)}) > ({', '.join(values)})"


def _cursor_after(query: Query, row: Row) -> str:
    content = [
        query.granularity,
        list(query.group_by),
        [row.start_at.isoformat(), *(row.groups[name] for name in query.group_by), row.currency],
    ]
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _cursor_parameters(query: Query) -> dict[str, object]:
    """Raises InvalidCursor."""
    if not query.cursor:
        return {}
    padded = query.cursor + "=" * (-len(query.cursor) % 4)
    try:
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        granularity, group_by, values = content
        if (granularity, group_by) != (query.granularity, list(query.group_by)):
            raise InvalidCursor("it is of another bucket_width or group_by")
        return _checked_cursor(query, values)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidCursor("it is not what an answer gave as next_page") from error


def _checked_cursor(query: Query, values: Sequence[object]) -> dict[str, object]:
    """Raises ValueError, TypeError, OverflowError where a value is none of its column."""
    start_at, *groups, currency = map(str, values)
    after: list[object] = [datetime.fromisoformat(start_at).astimezone(UTC)]
    for name, value in zip(query.group_by, groups, strict=True):
        after.append(UUID(value) if DIMENSIONS[name][1] == "uuid" else _checked_text(value))
    after.append(_checked_text(currency))
    return {f"after{index}": value for index, value in enumerate(after)}


def _checked_text(value: str) -> str:
    """Raises ValueError for what PostgreSQL's text cannot hold: NUL, and halves of surrogates."""
    if b"\0" in value.encode():
        raise ValueError("PostgreSQL has no text with a NUL")
    return value


def _row(query: Query, values: Sequence[Any]) -> Row:
    start_at, *groups = values[: 1 + len(query.group_by)]
    currency, attachment_name, *amounts = values[1 + len(query.group_by) :]
    return Row(
        start_at=start_at,
        end_at=start_at + WIDTHS[query.granularity],
        groups={name: str(value) for name, value in zip(query.group_by, groups, strict=True)},
        attachment_name=attachment_name,
        currency=currency,
        **dict(zip(AMOUNTS, amounts, strict=True)),
    )
