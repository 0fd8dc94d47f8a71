"""Stripe: meter events, `POST /v1/billing/meter_events`, one a request.

Stripe refuses an identifier that it has seen within "a rolling period of at least 24 hours", which
proves that the event arrived. No Idempotency-Key is sent: under one, Stripe would answer a repeat
with the first answer, a 500 too. Source: https://docs.stripe.com/api/billing/meter-event/create
"""

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlencode

import httpx
from django.conf import settings

from billing.exports.events import (
    Answer,
    Delivered,
    ExportedEvent,
    NotTried,
    Outcome,
    Rejected,
    Skipped,
    Unavailable,
    describe,
    encode,
    post,
)

BATCH_MAX_EVENTS = 200
AT_ONCE = 10
DEDUPLICATES_FOR = timedelta(hours=23)  # with an hour for what is under way
DUPLICATE_MESSAGE = "An event already exists with identifier"


async def send(
    client: httpx.AsyncClient, events: Sequence[ExportedEvent], stop_at: float
) -> list[Outcome]:
    """AT_ONCE at a time; once Stripe is unavailable, or `stop_at` (of the monotonic clock) is over,
    the rest is not tried."""
    slots = asyncio.Semaphore(AT_ONCE)
    lost: list[Unavailable] = []

    async def send_in_turn(event: ExportedEvent) -> Outcome:
        async with slots:
            if lost:
                return lost[0]
            if time.monotonic() >= stop_at:
                return NotTried()
            outcome = await _send_one(client, event)
            if isinstance(outcome, Unavailable):
                lost.append(outcome)
            return outcome

    return list(await asyncio.gather(*map(send_in_turn, events)))


async def _send_one(client: httpx.AsyncClient, event: ExportedEvent) -> Outcome:
    if not event.stripe_customer_id:
        return Skipped(reason=f"customer {event.event.customer_id} has no stripe_customer_id")
    body = encode(event, _write)
    if isinstance(body, Rejected):
        return body
    answer = await post(
        client,
        f"{settings.EXPORT_STRIPE_URL}/v1/billing/meter_events",
        headers={
            "authorization": f"Bearer {settings.EXPORT_STRIPE_KEY}",
            "content-type": "application/x-www-form-urlencoded",
        },
        body=body,
    )
    if isinstance(answer, Unavailable):
        return answer
    if answer.is_success or _is_duplicate(answer):
        return Delivered()
    if answer.is_rejection:
        return Rejected(reason=describe(answer))
    return Unavailable(reason=describe(answer))


def _write(event: ExportedEvent) -> str:
    return urlencode(meter_event(event))


def meter_event(exported: ExportedEvent) -> dict[str, str | int]:
    """`timestamp` is when the row was stored, which decides the billing period here."""
    event = exported.event
    return {
        "event_name": settings.EXPORT_STRIPE_EVENT_NAME,
        "identifier": str(event.id),
        "timestamp": int(event.stored_at.timestamp()),
        "payload[stripe_customer_id]": exported.stripe_customer_id,
        "payload[value]": event.tokens,
    }


def _is_duplicate(answer: Answer) -> bool:
    """Stripe has no code for it, only words; seen in langfuse/langfuse#16292."""
    try:
        message = json.loads(answer.body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return False
    return answer.status == 400 and str(message).startswith(DUPLICATE_MESSAGE)
