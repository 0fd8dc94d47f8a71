"""OpenMeter: CloudEvents in batches, `POST /api/v1/events`.

OpenMeter counts an event once by its source and id, so what may have arrived can be sent again.
Source: https://openmeter.io/docs/metering/events/usage-events
"""

import json
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
    post,
)
from billing.models import UsageEvent

BATCH_MAX_EVENTS = 100
EVENT_TYPE = "annex.embeddings"


async def send(client: httpx.AsyncClient, events: Sequence[ExportedEvent]) -> list[Outcome]:
    """One batch; where it is rejected its halves, until only the events at fault are left out."""
    answer = await _post(client, events)
    if isinstance(answer, Unavailable):
        return [answer] * len(events)
    if answer.is_success:
        return [Delivered()] * len(events)
    if not answer.is_rejection:
        return [Unavailable(reason=describe(answer))] * len(events)
    if len(events) == 1:
        return [Rejected(reason=describe(answer))]
    middle = len(events) // 2
    return [*await send(client, events[:middle]), *await send(client, events[middle:])]


async def _post(client: httpx.AsyncClient, events: Sequence[ExportedEvent]) -> Answer | Unavailable:
    headers = {"content-type": "application/cloudevents-batch+json"}
    if settings.EXPORT_OPENMETER_TOKEN:
        headers["authorization"] = f"Bearer {settings.EXPORT_OPENMETER_TOKEN}"
    return await post(
        client,
        f"{settings.EXPORT_OPENMETER_URL}/api/v1/events",
        headers=headers,
        body=json.dumps([cloud_event(each.event) for each in events]).encode(),
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
