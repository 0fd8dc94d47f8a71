"""Corrections: what was recorded wrongly is put right by a new row that names the old one.

A correction's amounts are differences. It is stored now, so it is on the invoice of the period in
which it was made, at the price of the request that it corrects.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from django.db import connection, transaction
from django.db.models import Q, Sum

from billing.bulk import record_many
from billing.metering import Usage, UsageConflict
from billing.models import Price, UsageEvent
from billing.prices import BEFORE_PRICES, PriceVersion

AMOUNT_MAX = 2**31 - 1
REASON_MAX_CHARACTERS = 500


class UnknownUsageEvent(Exception):
    """The ledger has no such row, or no longer."""


class InvalidCorrection(Exception):
    """`field` cannot be so; the message says what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


def correct(
    event_id: uuid.UUID,
    *,
    id: uuid.UUID,  # noqa: A002 - as the field of Usage
    inputs: int,
    text_tokens: int,
    image_tokens: int = 0,
    reason: str,
    now: datetime,
    destinations: Sequence[str] = (),
) -> Usage | None:
    """Record what a request really used, none of it negative; returns the new row, or None where
    the ledger says so already. `id`, a uuid7, is the correction's: repeating it changes nothing.

    Raises UnknownUsageEvent, InvalidCorrection, and UsageConflict where the row `id` says something
    else.
    """
    amounts = {"inputs": inputs, "text_tokens": text_tokens, "image_tokens": image_tokens}
    _check(amounts, reason)
    with transaction.atomic():
        _lock(event_id)
        event = _get(event_id)
        amounts["cost_picounits"] = _cost(event, text_tokens, image_tokens)
        if made := UsageEvent.objects.filter(id=id).first():
            return _made_before(made, event_id, amounts, reason)
        recorded = _recorded(event_id, datetime.max.replace(tzinfo=UTC))
        differences = {name: amount - recorded[name] for name, amount in amounts.items()}
        if not any(differences.values()):
            return None
        correction = replace(
            _usage(event),
            id=id,
            outcome=UsageEvent.Outcome.CORRECTION.value,
            corrects=event_id,
            reason=reason,
            requested_at=now,
            inputs=differences["inputs"],
            text_tokens=differences["text_tokens"],
            image_tokens=differences["image_tokens"],
            cost_picounits=differences["cost_picounits"],
        )
        record_many([correction], destinations=destinations)
    return correction


def _check(amounts: dict[str, int], reason: str) -> None:
    for name, amount in amounts.items():
        if not 0 <= amount <= AMOUNT_MAX:
            raise InvalidCorrection(name, f"must be from 0 to {AMOUNT_MAX}")
    if not 0 < len(reason.strip()) <= len(reason) <= REASON_MAX_CHARACTERS:
        raise InvalidCorrection("reason", f"must be 1 to {REASON_MAX_CHARACTERS} characters")


def _lock(event_id: uuid.UUID) -> None:
    """One correction of an event at a time; its row is never locked, for it never changes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [str(event_id)])


def _get(event_id: uuid.UUID) -> UsageEvent:
    try:
        return UsageEvent.objects.get(id=event_id, outcome=UsageEvent.Outcome.ANSWERED)
    except UsageEvent.DoesNotExist:
        raise UnknownUsageEvent(f"the ledger has no answered request {event_id}") from None


def _made_before(
    made: UsageEvent, event_id: uuid.UUID, amounts: Mapping[str, int], reason: str
) -> Usage:
    if made.corrects != event_id:
        raise UsageConflict(f"{made.id} is another row of the ledger")
    if made.reason != reason or _recorded(event_id, made.stored_at) != amounts:
        raise UsageConflict(f"the correction {made.id} exists with other content")
    return _usage(made)


def _usage(event: UsageEvent) -> Usage:
    return Usage(**{name: getattr(event, name) for name in Usage.__dataclass_fields__})


def _recorded(event_id: uuid.UUID, until: datetime) -> dict[str, int]:
    """What the event and its corrections stored `until` then come to."""
    names = ("inputs", "text_tokens", "image_tokens", "cost_picounits")
    rows = UsageEvent.objects.filter(Q(id=event_id) | Q(corrects=event_id, stored_at__lte=until))
    found = rows.aggregate(**{f"sum_{name}": Sum(name) for name in names})
    return {name: int(found[f"sum_{name}"]) for name in names}


def _cost(event: UsageEvent, text_tokens: int, image_tokens: int) -> int:
    """At the price that held for the request."""
    if event.price_id == BEFORE_PRICES:
        return 0
    price = PriceVersion.of(Price.objects.select_related("plan").get(id=event.price_id))
    return price.cost_picounits(event.model_id, text_tokens=text_tokens, image_tokens=image_tokens)
