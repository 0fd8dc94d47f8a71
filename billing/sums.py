"""Sums of the ledger by hour and day: what they say, and whether they are what the rows come to.

They are written with the rows in one transaction, so both are the same in every snapshot: they are
compared, and repaired, while others write.
"""

import uuid
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Sum

from billing.metering import ADD, AMOUNTS, SPANS, SUM_KEY, TOTALS
from billing.models import UsageSum
from billing.periods import Period
from billing.spend import ACCOUNT, app_scope, attachment_scope


@dataclass(frozen=True, kw_only=True, slots=True)
class Used:
    """What a resource used of a model at one version of its plan's price."""

    resource_id: uuid.UUID
    price_id: int
    model_id: str
    requests: int
    inputs: int
    text_tokens: int
    image_tokens: int
    cost_picounits: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SumMismatch:
    """A sum that is not what its rows come to; the amounts are rows minus sum."""

    granularity: str
    start_at: datetime
    customer_id: uuid.UUID
    attachment_id: uuid.UUID
    model_id: str
    requests: int
    inputs: int
    text_tokens: int
    image_tokens: int
    cost_picounits: int

    def __str__(self) -> str:
        amounts = ", ".join(f"{name} {getattr(self, name):+d}" for name in AMOUNTS)
        return (
            f"{self.granularity} {self.start_at:%Y-%m-%d %H:%M}, attachment {self.attachment_id}, "
            f"{self.model_id}: the rows have {amounts}"
        )


def usage_between(customer_id: uuid.UUID, start_at: datetime, end_at: datetime) -> list[Used]:
    """What a customer's rows that were stored in [start_at, end_at), whole hours, come to; by
    resource, price and model. Raises ValueError for parts of hours."""
    found = (
        _between(start_at, end_at)
        .filter(customer_id=customer_id)
        .values("resource_id", "price_id", "model_id")
        .annotate(**{f"sum_{amount}": Sum(amount) for amount in AMOUNTS})
        .order_by("resource_id", "price_id", "model_id")
    )
    return [
        Used(**{name.removeprefix("sum_"): _integer(value) for name, value in row.items()})
        for row in found
    ]


def spend_by_customer(
    period: Period, customer_ids: Collection[uuid.UUID] | None = None
) -> dict[uuid.UUID, Counter[str]]:
    """What each customer, or each of these, spent in a month, in picounits by scope; all of one
    moment."""
    spent: dict[uuid.UUID, Counter[str]] = {}
    sums = _between(period.start_at, period.end_at)
    if customer_ids is not None:
        sums = sums.filter(customer_id__in=customer_ids)
    found = sums.values_list("customer_id", "attachment_id", "app_name")
    for customer_id, attachment_id, app_name, cost in found.annotate(cost=Sum("cost_picounits")):
        of_customer = spent.setdefault(customer_id, Counter())
        for scope in (ACCOUNT, app_scope(app_name), attachment_scope(attachment_id)):
            of_customer[scope] += int(cost)
    return spent


def verify_sums(first: date, last: date) -> list[SumMismatch]:
    """The sums of these days (UTC), both included, that are not what the rows come to."""
    with connection.cursor() as cursor:
        cursor.execute(_VERIFY, _days(first, last))
        names = [column.name for column in cursor.description]
        return [SumMismatch(**dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def rebuild_sums(first: date, last: date) -> int:
    """Make the sums of these days what the rows come to; returns how many were not.

    What rows and sums differ by does not change while others write, so it is added.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('billing.rebuild_sums'))")
        cursor.execute(_REBUILD, _days(first, last))
        return int(cursor.rowcount)


def to_json(mismatch: SumMismatch) -> dict[str, Any]:
    return {
        name: value if isinstance(value, int) else str(value)
        for name, value in asdict(mismatch).items()
    }


_ROWS = f"""
    SELECT {SUM_KEY}, {TOTALS}
    FROM billing_usageevent, {SPANS}
    WHERE stored_at >= %(start_at)s AND stored_at < %(end_at)s
    GROUP BY {SUM_KEY}
"""  # noqa: S608 - the names of columns are ours
_SUMS = f"""
    SELECT {SUM_KEY}, {", ".join(AMOUNTS)} FROM billing_usagesum
    WHERE start_at >= %(start_at)s AND start_at < %(end_at)s
"""  # noqa: S608 - as above
_DIFFERENCES = ", ".join(
    f"coalesce(rows.{amount}, 0) - coalesce(sums.{amount}, 0) AS {amount}" for amount in AMOUNTS
)
_DIFFER = f"""
    SELECT * FROM (
        SELECT {SUM_KEY}, {_DIFFERENCES}
        FROM ({_ROWS}) AS rows FULL JOIN ({_SUMS}) AS sums USING ({SUM_KEY})
    ) AS compared
    WHERE ({", ".join(AMOUNTS)}) <> (0, 0, 0, 0, 0)
"""  # noqa: S608 - as above
_VERIFY = f"""
    SELECT granularity, start_at, customer_id, attachment_id, model_id, {", ".join(AMOUNTS)}
    FROM ({_DIFFER}) AS differ ORDER BY {SUM_KEY}
"""  # noqa: S608 - as above
_REBUILD = f"""
    INSERT INTO billing_usagesum ({SUM_KEY}, {", ".join(AMOUNTS)})
    SELECT {SUM_KEY}, {", ".join(AMOUNTS)} FROM ({_DIFFER}) AS differ ORDER BY {SUM_KEY}
    ON CONFLICT ({SUM_KEY}) DO UPDATE SET {ADD}
"""  # noqa: S608 - as above


def _between(start_at: datetime, end_at: datetime) -> Any:
    """The sums of that time; of days where it is whole days."""
    hours = [(at.minute, at.second, at.microsecond) for at in (start_at, end_at)]
    if any(map(any, hours)):
        raise ValueError(f"{start_at} to {end_at} are not whole hours")
    is_days = all(at.astimezone(UTC).hour == 0 for at in (start_at, end_at))
    granularity = UsageSum.Granularity.DAY if is_days else UsageSum.Granularity.HOUR
    return UsageSum.objects.filter(
        granularity=granularity, start_at__gte=start_at, start_at__lt=end_at
    )


def _integer(value: Any) -> Any:
    """PostgreSQL sums bigint as numeric."""
    return int(value) if isinstance(value, Decimal) else value


def _days(first: date, last: date) -> dict[str, datetime]:
    start_at = datetime.combine(first, time(tzinfo=UTC))
    end_at = datetime.combine(last, time(tzinfo=UTC)) + timedelta(days=1)
    return {"start_at": start_at, "end_at": end_at}
