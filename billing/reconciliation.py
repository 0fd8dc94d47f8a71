"""Reconciliation: limiter, ledger, sums and invoices say the same, or an alarm is raised.

Each comparison is kept as a Reconciliation, which /metrics shows; a drift is also logged as an
error. What was compared while others wrote is compared so that their writes make no difference.
"""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import F, Sum
from redis.asyncio import Redis

from billing import sums
from billing.models import Customer, Invoice, InvoiceLine, Reconciliation, UsageSum
from billing.partitions import first_whole_day
from billing.periods import Period, month_of
from billing.rate_limits import Limiter
from billing.spend import Spend, spend_in_ledger

logger = logging.getLogger(__name__)

DETAILS_MAX = 100
# Clean comparisons are kept that long; the others for good.
KEPT = timedelta(days=30)
# How long after its end a period's invoices are final at the latest.
CLOSED_WITHIN = timedelta(days=3)
INVOICED_MONTHS = 3
# Of rows and sums, each night; those of a whole month are compared when its invoices are closed.
SUMS_DAYS = 7

Spends = Mapping[uuid.UUID, Spend | None]


def reconcile_limiter(redis_url: str, now: datetime) -> Reconciliation:
    """Compare what the limiter counts as spent this month with the ledger, for each customer and
    scope. Where they differ, the limiter reads the ledger again at the next request."""
    customer_ids = _customers(month_of(now))
    drifts = _find_limiter_drifts(redis_url, customer_ids, month_of(now))
    if drifts:
        # Twice, for a correction may be made, or Redis be emptied, in the middle of a comparison.
        drifting = {uuid.UUID(drift["customer_id"]) for drift in drifts}
        drifts = _find_limiter_drifts(redis_url, drifting, month_of(now))
        forget_spend(redis_url, {uuid.UUID(drift["customer_id"]) for drift in drifts})
    return _keep(Reconciliation.Kind.LIMITER_AND_LEDGER, len(customer_ids), drifts, now)


def reconcile_sums(now: datetime, *, days: int) -> Reconciliation:
    """Compare the sums of the last days, today included, with the ledger's rows."""
    last = now.date()
    first = last - timedelta(days=days - 1)
    first = max(first, first_whole_day() or first)  # of what retention dropped, sums are left
    drifts = [
        sums.to_json(mismatch) | {"drift_picounits": max(1, abs(mismatch.cost_picounits))}
        for mismatch in sums.verify_sums(first, last)
    ]
    start_at = datetime.combine(first, time(tzinfo=UTC))
    compared = UsageSum.objects.filter(start_at__gte=start_at).count()
    return _keep(Reconciliation.Kind.ROWS_AND_SUMS, compared, drifts, now)


def reconcile_invoices(now: datetime, *, months: int = INVOICED_MONTHS) -> Reconciliation:
    """Compare the tokens on the final invoices of the last months with the ledger's sums, and ask
    whether everything that was used is on one, or will be."""
    period = month_of(now)
    compared, drifts = 0, _find_not_invoiced(period, now)
    for _ in range(months):
        period = period.previous
        invoices = Invoice.objects.filter(
            state=Invoice.State.FINAL, period_start=period.start_at, period_end=period.end_at
        )
        for customer_id in invoices.values_list("customer_id", flat=True).distinct():
            compared += 1
            drifts += _find_invoice_drifts(customer_id, period)
        drifts += _find_not_invoiced(period, now)
    return _keep(Reconciliation.Kind.LEDGER_AND_INVOICE, compared, drifts, now)


def forget_spend(redis_url: str, customer_ids: Collection[uuid.UUID]) -> None:
    """Have the limiter read these customers' spend from the ledger again; needed after a
    correction."""

    async def forget() -> None:
        limiter = _limiter(redis_url)
        try:
            await asyncio.gather(*map(limiter.forget_spend, customer_ids))
        finally:
            await limiter.close()

    if customer_ids:
        asyncio.run(forget())


def find_drift(before: Spend, ledger: Mapping[str, int], after: Spend) -> dict[str, int]:
    """The scopes on which limiter and ledger disagree, and by how much, in picounits.

    What was settled before the ledger was read is in it; what is in it was reserved before the
    limiter was read again.
    """
    drifts = {
        scope: max(
            0, before.picounits.get(scope, 0) - before.held.get(scope, 0) - ledger.get(scope, 0)
        )
        + max(0, ledger.get(scope, 0) - after.picounits.get(scope, 0))
        for scope in {*before.picounits, *ledger}
    }
    return {scope: drift for scope, drift in sorted(drifts.items()) if drift}


def _customers(period: Period) -> set[uuid.UUID]:
    """Those that there are, and those that used something."""
    used = UsageSum.objects.filter(
        granularity=UsageSum.Granularity.DAY, start_at__gte=period.start_at
    )
    return {
        *Customer.objects.values_list("id", flat=True),
        *used.values_list("customer_id", flat=True).distinct(),
    }


def _find_limiter_drifts(
    redis_url: str, customer_ids: Collection[uuid.UUID], period: Period
) -> list[dict[str, Any]]:
    before = _read_spends(redis_url, customer_ids)
    spent = sums.spend_by_customer(period)
    seeded = [id_ for id_ in customer_ids if _is_of(before[id_], period)]
    after = _read_spends(redis_url, seeded)
    drifts = []
    for customer_id in seeded:
        first, second = before[customer_id], after[customer_id]
        if first is None or second is None or not _is_of(second, period):
            continue  # the month ended, or the limiter knows that it has to ask
        ledger = spent.get(customer_id, Counter())
        drifts += [
            {
                "customer_id": str(customer_id),
                "scope": scope,
                "limiter_picounits": first.picounits.get(scope, 0),
                "held_picounits": first.held.get(scope, 0),
                "ledger_picounits": ledger.get(scope, 0),
                "drift_picounits": drift,
            }
            for scope, drift in find_drift(first, ledger, second).items()
        ]
    return drifts


def _is_of(spend: Spend | None, period: Period) -> bool:
    return spend is not None and spend.until == period.end_at


def _read_spends(redis_url: str, customer_ids: Iterable[uuid.UUID]) -> Spends:
    async def read() -> Spends:
        limiter = _limiter(redis_url)
        try:
            found = await asyncio.gather(*map(limiter.read_spend, ids))
        finally:
            await limiter.close()
        return dict(zip(ids, found, strict=True))

    ids = list(customer_ids)
    return asyncio.run(read())


def _limiter(redis_url: str) -> Limiter:
    return Limiter(Redis.from_url(redis_url), read_ledger=sync_to_async(spend_in_ledger))


def _find_invoice_drifts(customer_id: uuid.UUID, period: Period) -> list[dict[str, Any]]:
    """A line's quantity × unit price is in picounits, as the ledger's cost is."""
    ledger: Amounts = {
        (used.resource_id, used.price_id, used.model_id): (
            used.text_tokens + used.image_tokens,
            used.cost_picounits,
        )
        for used in sums.usage_between(customer_id, period.start_at, period.end_at)
    }
    lines = InvoiceLine.objects.filter(
        invoice__customer_id=customer_id,
        invoice__state=Invoice.State.FINAL,
        invoice__period_start=period.start_at,
        kind__in=[InvoiceLine.Kind.TEXT_TOKENS, InvoiceLine.Kind.IMAGE_TOKENS],
    ).values("resource_id", "price_id", "model_id")
    invoiced = {
        (line["resource_id"], line["price_id"], line["model_id"]): (
            int(line["tokens"]),
            int(line["picounits"]),
        )
        for line in lines.annotate(
            tokens=Sum("quantity"), picounits=Sum(F("quantity") * F("unit_price_microunits"))
        )
    }
    return list(_compare(customer_id, period, ledger, invoiced))


Amounts = Mapping[tuple[uuid.UUID | None, int | None, str], tuple[int, int]]


def _compare(
    customer_id: uuid.UUID, period: Period, ledger: Amounts, invoiced: Amounts
) -> Iterator[dict[str, Any]]:
    for key in ledger.keys() | invoiced.keys():
        used, billed = ledger.get(key, (0, 0)), invoiced.get(key, (0, 0))
        if used == billed:
            continue
        resource_id, price_id, model_id = key
        yield {
            "customer_id": str(customer_id),
            "period": str(period),
            "resource_id": str(resource_id),
            "price_id": price_id,
            "model_id": model_id,
            "ledger_tokens": used[0],
            "ledger_picounits": used[1],
            "invoice_tokens": billed[0],
            "invoice_picounits": billed[1],
            "drift_picounits": max(1, abs(used[1] - billed[1])),
        }


def _find_not_invoiced(period: Period, now: datetime) -> list[dict[str, Any]]:
    """Customers who used something that costs, and have no final invoice of the period; while it
    may still be closed, those that are in no table of customers, for they never get one."""
    invoiced = Invoice.objects.filter(state=Invoice.State.FINAL, period_start=period.start_at)
    used = (
        UsageSum.objects.filter(
            granularity=UsageSum.Granularity.DAY,
            start_at__gte=period.start_at,
            start_at__lt=period.end_at,
        )
        .exclude(customer_id__in=invoiced.values("customer_id"))
        .values_list("customer_id")
        .annotate(cost=Sum("cost_picounits"))
        .exclude(cost=0)
    )
    if now <= period.end_at + CLOSED_WITHIN:
        used = used.exclude(customer_id__in=Customer.objects.values("id"))
    return [
        {
            "customer_id": str(customer_id),
            "period": str(period),
            "invoice": None,
            "drift_picounits": abs(int(cost)),
        }
        for customer_id, cost in used
    ]


def _keep(
    kind: Reconciliation.Kind, compared: int, drifts: Sequence[Mapping[str, Any]], now: datetime
) -> Reconciliation:
    """Save what was found; an error in the log where that is not nothing."""
    clean = Reconciliation.objects.filter(kind=kind, drift_picounits=0)
    clean.filter(ran_at__lt=now - KEPT).delete()
    reconciliation = Reconciliation.objects.create(
        kind=kind,
        ran_at=now,
        compared=compared,
        drift_picounits=sum(drift["drift_picounits"] for drift in drifts),
        details=list(drifts[:DETAILS_MAX]),
    )
    if drifts:
        logger.error(
            "%s differ by %d picounits in %d places: %s",
            kind.value,
            reconciliation.drift_picounits,
            len(drifts),
            reconciliation.details[:3],
        )
    return reconciliation
