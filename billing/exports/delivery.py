"""Delivery: what waits in the outbox goes to its destination, and is deleted when it has it.

An entry is claimed before it is sent, for LEASE_S, and no transaction is open meanwhile: a process
that is killed leaves entries that are sent again. Destinations know events by their ids, so each
counts once. An event that a destination rejects REJECTIONS_MAX times is set aside with the reason,
as is one that cannot be sent; they have no `next_attempt_at`, and keep nothing else waiting.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import httpx
from django.db import transaction
from django.db.models import QuerySet

from billing.exports.destinations import Destination, destinations
from billing.exports.events import (
    Delivered,
    ExportedEvent,
    NotTried,
    Outcome,
    Rejected,
    Skipped,
    Unavailable,
)
from billing.models import Customer, OutboxEntry, UsageEvent

logger = logging.getLogger(__name__)

LEASE_S = 600
RUN_S = 20.0
REJECTIONS_MAX = 5
FIRST_DELAY_S = 10
DELAY_MAX_S = 3_600
# Stripe takes no older ones, so nobody needs what was set aside before.
SET_ASIDE_KEPT = timedelta(days=35)

Clock = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    entry: OutboxEntry
    event: ExportedEvent


def deliver_exports(clock: Clock) -> int:
    """Send what is due to each destination, for RUN_S each and the calls that are under way then;
    returns how many arrived. Safe to run in parallel."""
    delivered = 0
    for destination in destinations():
        try:
            delivered += deliver_to(destination, clock)
        except Exception:  # whatever it is, the other destinations do not wait for it
            logger.exception("the run of exports to %s broke", destination.name)
    return delivered


def deliver_to(destination: Destination, clock: Clock) -> int:
    _purge(destination, clock())
    _set_aside_doubtful(destination, clock())
    stop_at = time.monotonic() + RUN_S
    delivered = 0
    while time.monotonic() < stop_at and (claimed := _claim(destination, clock())):
        outcomes = asyncio.run(_send(destination, claimed, stop_at))
        delivered += _settle(claimed, outcomes, clock())
        if any(isinstance(outcome, Unavailable) for outcome in outcomes):
            break
    return delivered


def send_again(entries: "QuerySet[OutboxEntry]", now: datetime) -> int:
    """Try entries that were set aside once more, from the first attempt on."""
    return entries.filter(next_attempt_at=None).update(
        attempts=0, next_attempt_at=now, last_error=""
    )


def discard(entries: "QuerySet[OutboxEntry]") -> int:
    """Delete those whose destination is off, which nobody sends; returns how many."""
    enabled = [destination.name for destination in destinations()]
    count, _ = entries.exclude(destination__in=enabled).delete()
    return count


async def _send(
    destination: Destination, claimed: Sequence[Claimed], stop_at: float
) -> list[Outcome]:
    async with httpx.AsyncClient(timeout=None) as client:  # noqa: S113 - each call has a deadline
        return await destination.send(client, [each.event for each in claimed], stop_at)


def _claim(destination: Destination, now: datetime) -> list[Claimed]:
    """Those that are due, with their events; an entry without its event is set aside."""
    with transaction.atomic():
        due = OutboxEntry.objects.filter(destination=destination.name, next_attempt_at__lte=now)
        locked = due.select_for_update(skip_locked=True).order_by("next_attempt_at", "id")
        entries = list(locked[: destination.batch_events])
        for entry in entries:
            entry.attempts += 1
            entry.next_attempt_at = now + timedelta(seconds=LEASE_S)
        OutboxEntry.objects.bulk_update(entries, ["attempts", "next_attempt_at"])
    events = UsageEvent.objects.in_bulk([entry.event_id for entry in entries])
    missing = [entry.id for entry in entries if entry.event_id not in events]
    _set_aside(OutboxEntry.objects.filter(id__in=missing), "the ledger no longer has the event")
    customers = Customer.objects.in_bulk({event.customer_id for event in events.values()})
    return [
        Claimed(entry=entry, event=_exported(events[entry.event_id], customers))
        for entry in entries
        if entry.event_id in events
    ]


def _exported(event: UsageEvent, customers: Mapping[UUID, Customer]) -> ExportedEvent:
    customer = customers.get(event.customer_id)
    return ExportedEvent(
        event=event, stripe_customer_id=customer.stripe_customer_id if customer else ""
    )


def _settle(claimed: Sequence[Claimed], outcomes: Sequence[Outcome], now: datetime) -> int:
    """Delete what arrived, put off what did not; returns how many arrived."""
    arrived = []
    for each, outcome in zip(claimed, outcomes, strict=True):
        match outcome:
            case Delivered():
                arrived.append(each.entry.id)
            case Skipped(reason=reason):
                _set_aside(_unchanged(each.entry), reason)
            case Rejected(reason=reason) if each.entry.attempts >= REJECTIONS_MAX:
                _set_aside(_unchanged(each.entry), reason)
            case Rejected(reason=reason) | Unavailable(reason=reason):
                next_attempt_at = now + timedelta(seconds=delay_s(each.entry.attempts))
                _unchanged(each.entry).update(next_attempt_at=next_attempt_at, last_error=reason)
            case NotTried():
                _unchanged(each.entry).update(attempts=each.entry.attempts - 1, next_attempt_at=now)
    OutboxEntry.objects.filter(id__in=arrived).delete()
    return len(arrived)


def delay_s(attempts: int) -> int:
    """Before the next attempt, after that many."""
    return min(FIRST_DELAY_S << min(attempts - 1, 20), DELAY_MAX_S)


def _unchanged(entry: OutboxEntry) -> "QuerySet[OutboxEntry]":
    """The entry, unless its lease ran out and another process took it."""
    return OutboxEntry.objects.filter(id=entry.id, attempts=entry.attempts)


def _set_aside(entries: "QuerySet[OutboxEntry]", reason: str) -> None:
    count = entries.update(next_attempt_at=None, last_error=reason)
    if count:
        logger.warning("set %d exports aside: %s", count, reason)


def _set_aside_doubtful(destination: Destination, now: datetime) -> None:
    """Those that may have arrived so long ago that a repeat could be counted twice."""
    if destination.deduplicates_for is None:
        return
    doubtful = OutboxEntry.objects.filter(
        destination=destination.name,
        attempts__gt=0,
        next_attempt_at__lte=now,
        created_at__lt=now - destination.deduplicates_for,
    )
    _set_aside(doubtful, "it may have arrived, and a repeat could be counted twice")


def _purge(destination: Destination, now: datetime) -> None:
    OutboxEntry.objects.filter(
        destination=destination.name, next_attempt_at=None, created_at__lt=now - SET_ASIDE_KEPT
    ).delete()
