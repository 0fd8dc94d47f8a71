"""Spend: the cost of tokens in a month, in 10⁻¹² units, before what is included or credited.

Kept by the limiter per account, app and attachment; the ledger's sums are where it comes from.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from billing.periods import Period

ACCOUNT = "account"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """What the limiter counts until `until`, by scope; `held` of it was not seen in the ledger."""

    until: datetime
    picounits: Mapping[str, int]
    held: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerSpend:
    """What the ledger comes to, by scope, and which of the events asked for it has."""

    picounits: Mapping[str, int]
    stored: frozenset[uuid.UUID]


def app_scope(app_name: str) -> str:
    return f"app:{app_name}"


def attachment_scope(attachment_id: uuid.UUID | str) -> str:
    return f"attachment:{attachment_id}"


# One statement, so that sums and rows are of the same moment.
_SPEND = """
    SELECT NULL::uuid, attachment_id, app_name, sum(cost_picounits)::text
    FROM billing_usagesum
    WHERE customer_id = %(customer_id)s AND granularity = 'day'
        AND start_at >= %(start_at)s AND start_at < %(end_at)s
    GROUP BY attachment_id, app_name
    UNION ALL
    SELECT id, NULL, NULL, NULL FROM billing_usageevent WHERE id = ANY(%(asked)s)
"""


def spend_in_ledger(
    customer_id: uuid.UUID, period: Period, asked: Collection[uuid.UUID]
) -> LedgerSpend:
    """The customer's spend in a month, and which of the events `asked` are stored, in any month."""
    picounits: Counter[str] = Counter()
    stored = set()
    with connection.cursor() as cursor:
        cursor.execute(
            _SPEND,
            {
                "customer_id": customer_id,
                "start_at": period.start_at,
                "end_at": period.end_at,
                "asked": list(asked),
            },
        )
        for event_id, attachment_id, app_name, cost in cursor.fetchall():
            if event_id is not None:
                stored.add(event_id)
                continue
            for scope in (ACCOUNT, app_scope(app_name), attachment_scope(attachment_id)):
                picounits[scope] += int(cost)
    return LedgerSpend(picounits=picounits, stored=frozenset(stored))
