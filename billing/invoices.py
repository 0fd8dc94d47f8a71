"""Invoices: drafts made anew from the ledger's sums whenever they are looked at, and final ones.

A row of the ledger belongs to the month (UTC) in which PostgreSQL stored it. A month is closed
once, SETTLE_GAP after its end: the invoice gets the next number and is never changed again.
"""

import hashlib
import logging
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Max, Min, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from billing.credits import (
    Available,
    available_credits,
    carry_over,
    lock_customer,
    next_number,
    use_credits,
)
from billing.models import Customer, Invoice, InvoiceLine, Price, Subscription, UsageEvent, UsageSum
from billing.periods import Period, month_of
from billing.prices import BEFORE_PRICES, PriceVersion, currency, prices_of
from billing.rating import Line, Term, rate
from billing.sums import Used, usage_between

logger = logging.getLogger(__name__)

# Statements that began before a month's end are committed long before this has passed.
SETTLE_GAP = timedelta(minutes=10)
TOKEN_KINDS = (InvoiceLine.Kind.TEXT_TOKENS, InvoiceLine.Kind.IMAGE_TOKENS)
# What of each row goes into a line's digest.
DIGEST_COLUMNS = ("id", "text_tokens", "image_tokens", "cost_picounits")
READ_ROWS = 10_000


class PeriodNotOver(Exception):
    """The period's rows may still become more."""


class NothingToInvoice(Exception):
    """The customer neither subscribed to nor used anything in the period."""


class LedgerDisagrees(Exception):
    """The ledger's sums are not those of its rows."""


def read_clock() -> datetime:
    """The time by PostgreSQL's clock, which stamps the ledger's rows."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    assert isinstance(now, datetime)  # noqa: S101 - for the type checker
    return now


def refresh_draft(customer_id: uuid.UUID, now: datetime) -> list[Invoice]:
    """A draft for each month that is not final yet, this one included, the oldest first.

    Credits are shown as they would be used if these months were closed in turn.
    """
    with transaction.atomic():
        lock_customer(customer_id)
        available = available_credits(customer_id)
        return [
            _write_draft(customer_id, period, available, now)
            for period in open_periods(customer_id, now)
        ]


def close(customer_id: uuid.UUID, period: Period, now: datetime) -> Invoice:
    """The final invoice of the period, made now unless it was before; safe to run in parallel.

    Raises PeriodNotOver, NothingToInvoice, LedgerDisagrees, UnknownPrice.
    """
    _check_due(period, now)
    with transaction.atomic():
        lock_customer(customer_id)
        made = Invoice.objects.filter(customer_id=customer_id, period_start=period.start_at)
        final = made.filter(state=Invoice.State.FINAL).first()
        return final or _close(customer_id, period, now)


def _close(customer_id: uuid.UUID, period: Period, now: datetime) -> Invoice:
    if not _has_something(customer_id, period):
        raise NothingToInvoice(f"customer {customer_id} has nothing to be invoiced in {period}")
    available = available_credits(customer_id)
    invoice = _write_draft(customer_id, period, available, now)
    for line in invoice.lines.filter(kind__in=TOKEN_KINDS):
        _seal(line)
    # From here to the end of the transaction one invoice at a time: numbers have no gaps.
    invoice.number = next_number(Invoice)
    use_credits(invoice, available)
    if invoice.credits_microunits < 0:
        carry_over(invoice, now)
    invoice.state = Invoice.State.FINAL
    invoice.finalized_at = now
    invoice.save()
    return invoice


def close_customer(
    customer_id: uuid.UUID, now: datetime, period: Period | None = None
) -> list[Invoice]:
    """Close the customer's months that are over, or that one; the oldest first.

    Returns those closed now. Raises as `close` does.
    """
    if period is not None:
        _check_due(period, now)
    due = [
        one for one in open_periods(customer_id, now) if _is_due(one, now) and period in (None, one)
    ]
    return [close(customer_id, one, now) for one in due]


def close_due(now: datetime) -> tuple[int, dict[uuid.UUID, Exception]]:
    """Close every customer's months that are over. What fails for one does not stop the others.

    Returns how many were closed, and what failed.
    """
    closed, failures = 0, dict[uuid.UUID, Exception]()
    for customer_id in Customer.objects.order_by("id").values_list("id", flat=True):
        try:
            closed += len(close_customer(customer_id, now))
        except Exception as error:
            logger.exception("cannot close the invoice of customer %s", customer_id)
            failures[customer_id] = error
    return closed, failures


def _is_due(period: Period, now: datetime) -> bool:
    return period.end_at + SETTLE_GAP <= now


def _check_due(period: Period, now: datetime) -> None:
    if not _is_due(period, now):
        closes_at = period.end_at + SETTLE_GAP
        raise PeriodNotOver(f"{period} can be closed from {closes_at.isoformat()} on")


def list_invoices(customer_id: uuid.UUID, now: datetime) -> list[Invoice]:
    """The newest first; drafts are made anew."""
    refresh_draft(customer_id, now)
    invoices = Invoice.objects.filter(customer_id=customer_id).order_by("-period_start")
    return list(invoices.prefetch_related("lines"))


def find_invoice(customer_id: uuid.UUID, number_or_id: str | int) -> Invoice | None:
    """By number or id; a draft as it was last made."""
    invoices = Invoice.objects.filter(customer_id=customer_id)
    text = str(number_or_id)
    if text.isascii() and text.isdigit() and len(text) < 19:
        return invoices.filter(number=int(text)).first()
    try:
        return invoices.filter(id=uuid.UUID(text)).first()
    except ValueError:
        return None


def expand(line: InvoiceLine) -> QuerySet[UsageEvent]:
    """The rows of the ledger that a line of tokens stands for, by id; other lines have none."""
    if line.resource_id is None or line.price_id is None or line.kind not in TOKEN_KINDS:
        return UsageEvent.objects.none()
    return UsageEvent.objects.filter(
        customer_id=line.invoice.customer_id,
        resource_id=line.resource_id,
        price_id=line.price_id,
        model_id=line.model_id,
        stored_at__gte=line.start_at,
        stored_at__lt=line.end_at,
    ).order_by("id")


def open_periods(customer_id: uuid.UUID, now: datetime) -> Iterator[Period]:
    """The months until now for which the customer owes an invoice that is not final."""
    subscribed = Subscription.objects.filter(customer_id=customer_id).aggregate(
        first=Min("start_at"), last=Max(Coalesce("end_at", Value(now)))
    )
    used = UsageSum.objects.filter(
        customer_id=customer_id, granularity=UsageSum.Granularity.DAY
    ).aggregate(first=Min("start_at"), last=Max("start_at"))
    spans = [found for found in (subscribed, used) if found["first"]]
    final = Invoice.objects.filter(customer_id=customer_id, state=Invoice.State.FINAL)
    closed = set(final.values_list("period_start", flat=True))
    until = min(now, max((span["last"] for span in spans), default=now))
    period = month_of(min((span["first"] for span in spans), default=now))
    while period.start_at <= until:
        if period.start_at not in closed and _has_something(customer_id, period):
            yield period
        period = month_of(period.end_at)


def _has_something(customer_id: uuid.UUID, period: Period) -> bool:
    used = UsageSum.objects.filter(
        customer_id=customer_id,
        granularity=UsageSum.Granularity.DAY,
        start_at__gte=period.start_at,
        start_at__lt=period.end_at,
    )
    return _subscriptions(customer_id, period).exists() or used.exists()


def _write_draft(
    customer_id: uuid.UUID, period: Period, available: list[Available], now: datetime
) -> Invoice:
    """Make the draft's lines anew; what it takes of `available` is no longer available in them."""
    charges = _charges(customer_id, period, now)
    amount = sum(line.amount_microunits for line in charges)
    lines = [*charges, *_credit_lines(period, amount, available)]
    total = sum(line.amount_microunits for line in lines)
    customer = Customer.objects.get(id=customer_id)
    content = {
        "customer_email": customer.email,
        "customer_name": customer.name,
        "period_end": period.end_at,
        "charges_microunits": amount,
        "credits_microunits": amount - total,
        "total_microunits": total,
        "updated_at": now,
    }
    invoice, _ = Invoice.objects.update_or_create(
        customer_id=customer_id,
        period_start=period.start_at,
        currency=currency(),
        defaults=content,
        create_defaults={**content, "created_at": now},
    )
    invoice.lines.all().delete()
    InvoiceLine.objects.bulk_create(
        InvoiceLine(invoice=invoice, position=position, **asdict(line))
        for position, line in enumerate(lines, start=1)
    )
    return invoice


def _charges(customer_id: uuid.UUID, period: Period, now: datetime) -> tuple[Line, ...]:
    usage = _read_usage(customer_id, period)
    price_ids = {used.price_id for used in usage}
    named = Price.objects.filter(id__in=price_ids).select_related("plan")
    prices = {price.id: PriceVersion.of(price) for price in named}
    return rate(period, _read_terms(customer_id, period), usage, prices, now)


def _credit_lines(period: Period, charges: int, available: list[Available]) -> Iterator[Line]:
    line = Line(
        kind=InvoiceLine.Kind.CREDIT,
        description="Carried over to the next invoice",
        quantity=1,
        unit="",
        amount_microunits=-charges,
        start_at=period.start_at,
        end_at=period.end_at,
    )
    if charges < 0:
        yield line
    for credit in available:
        if taken := credit.take(max(0, charges)):
            charges -= taken
            yield replace(line, description=credit.reason, amount_microunits=-taken)


def _subscriptions(customer_id: uuid.UUID, period: Period) -> QuerySet[Subscription]:
    return Subscription.objects.filter(
        Q(end_at=None) | Q(end_at__gt=period.start_at),
        customer_id=customer_id,
        start_at__lt=period.end_at,
    )


def _read_terms(customer_id: uuid.UUID, period: Period) -> list[Term]:
    subscriptions = list(_subscriptions(customer_id, period).select_related("plan"))
    prices = {
        plan.id: prices_of(plan) for plan in {subscription.plan for subscription in subscriptions}
    }
    return [
        Term(
            resource_id=subscription.resource_id,
            resource_name=subscription.resource_name,
            plan_name=subscription.plan.name,
            workers=subscription.plan.workers,
            prices=prices[subscription.plan_id],
            start_at=subscription.start_at,
            end_at=subscription.end_at,
        )
        for subscription in subscriptions
    ]


def _read_usage(customer_id: uuid.UUID, period: Period) -> list[Used]:
    found = usage_between(customer_id, period.start_at, period.end_at)
    return [used for used in found if used.price_id != BEFORE_PRICES]


@dataclass(kw_only=True, slots=True)
class Rows:
    """What the rows behind a line come to, and their digest."""

    count: int = 0
    text_tokens: int = 0
    image_tokens: int = 0
    sha256: str = ""


def read_rows(line: InvoiceLine) -> Rows:
    """Read the rows behind a line of tokens once, in the order of their ids.

    The digest is the SHA-256 of each one's `id,text_tokens,image_tokens,cost_picounits` and a
    newline.
    """
    rows, digest = Rows(), hashlib.sha256()
    for row in expand(line).values_list(*DIGEST_COLUMNS).iterator(chunk_size=READ_ROWS):
        digest.update((",".join(map(str, row)) + "\n").encode())
        rows.count += 1
        rows.text_tokens += row[1]
        rows.image_tokens += row[2]
    rows.sha256 = digest.hexdigest()
    return rows


def _seal(line: InvoiceLine) -> None:
    """Write down which rows the line stands for. Raises LedgerDisagrees."""
    rows = read_rows(line)
    texts = line.kind == InvoiceLine.Kind.TEXT_TOKENS
    tokens = rows.text_tokens if texts else rows.image_tokens
    if tokens != line.quantity:
        raise LedgerDisagrees(
            f"{line.description} of resource {line.resource_id} at price {line.price_id}: the sums "
            f"say {line.quantity}, the rows {tokens}"
        )
    line.events_count, line.events_sha256 = rows.count, rows.sha256
    line.save(update_fields=["events_count", "events_sha256"])
