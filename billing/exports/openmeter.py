"""OpenMeter: CloudEvents in batches, `POST /api/v1/events`.

OpenMeter counts an event once by its source and id, so what may have arrived can be sent again.
Source: https://openmeter.io/docs/metering/events/usage-events
"""

import json
import time
from collections.abc import Sequence

import httpx
from django.conf import settings

from billing.exports.events import (
    Answer,
    Delivered,
    ExportedEvent,
    Outcome,
    Rejected,
    Unavailable,
    describe,
    encode,
    post,
)
from billing.models import UsageEvent

BATCH_MAX_EVENTS = 100
EVENT_TYPE = "annex.embeddings"


async def send(
    client: httpx.AsyncClient, events: Sequence[ExportedEvent], stop_at: float
) -> list[Outcome]:
    """One batch; where it is rejected its halves, until only the events at fault are left out, or
    `stop_at` (of the monotonic clock) is over."""
    encoded = [encode(event, _write) for event in events]
    bodies = [body for body in encoded if isinstance(body, bytes)]
    sent = iter(await _send_bodies(client, bodies, stop_at) if bodies else [])
    return [next(sent) if isinstance(body, bytes) else body for body in encoded]


def _write(event: ExportedEvent) -> str:
    return json.dumps(cloud_event(event.event))


async def _send_bodies(
    client: httpx.AsyncClient, bodies: Sequence[bytes], stop_at: float
) -> list[Outcome]:
    answer = await _post(client, bodies)
    if isinstance(answer, Unavailable):
        return [answer] * len(bodies)
    if answer.is_success:
        return [Delivered()] * len(bodies)
    if not answer.is_rejection:
        return [Unavailable(reason=describe(answer))] * len(bodies)
    if len(bodies) == 1:
        return [Rejected(reason=describe(answer))]
    middle = len(bodies) // 2
    outcomes: list[Outcome] = []
    for half in (bodies[:middle], bodies[middle:]):
        if time.monotonic() < stop_at:
            outcomes += await _send_bodies(client, half, stop_at)
        else:
            # Put off longer and longer, so that what is never done keeps no other waiting.
            reason = f"among {len(bodies)} of which some are rejected: {describe(answer)}"
            outcomes += [Unavailable(reason=reason)] * len(half)
    return outcomes


async def _post(client: httpx.AsyncClient, bodies: Sequence[bytes]) -> Answer | Unavailable:
    headers = {"content-type": "application/cloudevents-batch+json"}
    if settings.EXPORT_OPENMETER_TOKEN:
        headers["authorization"] = f"Bearer {settings.EXPORT_OPENMETER_TOKEN}"
    return await post(
        client,
        f"{settings.EXPORT_OPENMETER_URL}/api/v1/events",
        headers=headers,
        body=b"[" + b",".join(bodies) + b"]",
    )


def cloud_event(event: UsageEvent) -> dict[str, object]:
    """`time` is that of storage, which decides the billing period here."""
    return {
        "specversion": "1.0",
        "id": str(event.id),
        "source": settings.PUBLIC_URL,
        "type": EVENT_TYPE,
        "subject": str(event.customer_id),
        "time": event.stored_at.isoformat(),
        "datacontenttype": "application/json",
        "data": {
            "tokens": event.tokens,
            "text_tokens": event.text_tokens,
            "image_tokens": event.image_tokens,
            "inputs": event.inputs,
            "cost_picounits": event.cost_picounits,
            "model": event.model_id,
            "plan": event.plan_name,
            "price_id": event.price_id,
            "resource_id": str(event.resource_id),
            "attachment_id": str(event.attachment_id),
            "attachment": event.attachment_name,
            "app": event.app_name,
            "key_id": str(event.credential_id),
            "outcome": event.outcome,
            "corrects": None if event.corrects is None else str(event.corrects),
            "requested_at": event.requested_at.isoformat(),
        },
    }
