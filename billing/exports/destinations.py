"""Where the ledger's rows are exported to, as the settings say."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import httpx
from django.conf import settings

from billing.exports import openmeter, stripe
from billing.exports.events import ExportedEvent, Outcome

Send = Callable[[httpx.AsyncClient, Sequence[ExportedEvent], float], Awaitable[list[Outcome]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """`send` gives one outcome an event, in their order. It begins no call once the instant of the
    monotonic clock that it is given is over, but its first. `deduplicates_for`: how long an
    event that may have arrived can be sent again without being counted twice; None: always."""

    name: str
    send: Send
    batch_events: int
    deduplicates_for: timedelta | None = None


def enabled_destinations() -> tuple[str, ...]:
    """The names of those that the ledger writes outbox entries for."""
    return tuple(destination.name for destination in destinations())


def destinations() -> tuple[Destination, ...]:
    enabled = []
    if settings.EXPORT_OPENMETER_URL:
        enabled.append(
            Destination(
                name="openmeter", send=openmeter.send, batch_events=openmeter.BATCH_MAX_EVENTS
            )
        )
    if settings.EXPORT_STRIPE_KEY:
        enabled.append(
            Destination(
                name="stripe",
                send=stripe.send,
                batch_events=stripe.BATCH_MAX_EVENTS,
                deduplicates_for=stripe.DEDUPLICATES_FOR,
            )
        )
    return tuple(enabled)
