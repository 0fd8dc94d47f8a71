"""Deliveries: each event is posted to each webhook that includes it, one at a time and in order.

A webhook is claimed before its first open delivery is tried. The claim is a lease: when it ends
without a note of how the attempt went, the delivery is tried again. So a receiver may hear twice,
under the same ids, but never not at all.
"""

import asyncio
import hmac
import json
import logging
import random
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import httpx
from django.db import transaction
from django.db.models import Q

from addon.json_api import iso
from addon.lifecycle import State
from addon.platform.models import DeliveryStatus, Webhook, WebhookDelivery, WebhookEvent
from billing import webhooks
from billing.webhooks import WebhookFailed, WebhookGone

logger = logging.getLogger(__name__)

AT_ONCE = 32
AT_ONCE_OF_AN_OWNER = 8
# Longer than an attempt, which billing.webhooks.TIMEOUT_S ends.
LEASE = timedelta(seconds=120)
POLL_S = 0.5
LOST_AFTER = timedelta(seconds=60)

# Of webhooks whose level is `sync`.
FIRST_RETRY_S = 10.0
LONGEST_RETRY_S = 3_600.0
RETRIED_FOR = timedelta(hours=72)

KEPT = timedelta(days=30)
PRUNED_AT_ONCE = 1_000

OPEN = (DeliveryStatus.PENDING, DeliveryStatus.RETRYING)

Clock = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    url: str
    headers: Mapping[str, str]
    body: bytes
    is_trusted: bool  # the URL may be in a private network


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """`code` is the status of the answer; `error` is None when that was 2xx."""

    code: int | None
    error: str | None = None
    is_final: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A delivery that is claimed until `leased_until`. `owner_id` is who answers for the URL: the
    app's owner, or the add-on's service. What came of it is known already where no message can be
    made."""

    id: UUID
    webhook_id: UUID
    owner_id: UUID
    delivery_id: UUID
    message: Message | Outcome
    started_at: datetime
    leased_until: datetime


def make_due(webhook_ids: Iterable[UUID], now: datetime) -> bool:
    """Have their open deliveries made, unless that is under way already; whether any is now due."""
    with transaction.atomic():
        # All of them are locked: of one that is being tried it shows only then whether it goes on.
        locked = Webhook.objects.select_for_update(no_key=True).filter(id__in=webhook_ids)
        rows = locked.order_by("id").only("id", "next_attempt_at")
        idle = [webhook.id for webhook in rows if webhook.next_attempt_at is None]
        return Webhook.objects.filter(id__in=idle).update(next_attempt_at=now) > 0


def revive_webhooks(now: datetime) -> None:
    """Make due what nobody did: a process died between the commit of a change and that."""
    lost = WebhookDelivery.objects.filter(
        status__in=OPEN, webhook__next_attempt_at=None, created_at__lt=now - LOST_AFTER
    )
    make_due(lost.order_by().values_list("webhook_id", flat=True).distinct(), now)


def deliver_webhooks(clock: Clock, is_stopping: Callable[[], bool] = lambda: False) -> None:
    """Make the attempts that are due until none is, or until `is_stopping`.

    Safe to run in parallel. One that hangs takes a place of AT_ONCE, and keeps no other webhook
    waiting.
    """
    in_flight: dict[Future[Outcome], Attempt] = {}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as posters:
        while True:
            if not is_stopping():
                for attempt in _claim_due(in_flight.values(), clock()):
                    in_flight[posters.submit(_post, attempt)] = attempt
            if not in_flight:
                return
            done, _ = wait(in_flight, POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                _finish(in_flight.pop(future), future.result(), clock())


def _claim_due(in_flight: Iterable[Attempt], now: datetime) -> Iterator[Attempt]:
    """As many as there are places for. What is left is claimed at the next call."""
    places = Counter(attempt.owner_id for attempt in in_flight)
    full = [owner for owner, taken in places.items() if taken >= AT_ONCE_OF_AN_OWNER]
    due = Webhook.objects.filter(next_attempt_at__lte=now).exclude(
        Q(addon=None, app__owner_id__in=full) | Q(addon__service_id__in=full)
    )
    # Each secret is read by itself: one that no key decrypts keeps no other webhook waiting.
    related = due.select_related("app", "addon__service").defer("secret", "authorization")
    for webhook in related.order_by("next_attempt_at")[: max(AT_ONCE - places.total(), 0)]:
        if places[_owner_id(webhook)] < AT_ONCE_OF_AN_OWNER:
            attempt = _claim(webhook, now)
            if attempt is not None:
                places[attempt.owner_id] += 1
                yield attempt


def _owner_id(webhook: Webhook) -> UUID:
    return webhook.app.owner_id if webhook.addon is None else webhook.addon.service_id


def _claim(webhook: Webhook, now: datetime) -> Attempt | None:
    """None when somebody else was first, or when there is nothing to deliver any more."""
    leased_until = now + LEASE
    with transaction.atomic():
        # Each claim moves next_attempt_at, so of two that read the same row one finds none.
        seen = Webhook.objects.filter(id=webhook.id, next_attempt_at=webhook.next_attempt_at)
        if seen.update(next_attempt_at=leased_until) != 1:
            return None
        delivery = _first_open(webhook)
        if delivery is None:
            Webhook.objects.filter(id=webhook.id).update(next_attempt_at=None)
            return None
        attempt_id = uuid4()
        delivery.attempts += 1
        delivery.next_attempt_at = None
        delivery.updated_at = now
        delivery.last_attempt = _attempt_json(attempt_id, "scheduled", now, now)
        delivery.save(update_fields=["attempts", "next_attempt_at", "updated_at", "last_attempt"])
        message = _message(webhook, delivery, attempt_id)
    return Attempt(
        id=attempt_id,
        webhook_id=webhook.id,
        owner_id=_owner_id(webhook),
        delivery_id=delivery.id,
        message=message,
        started_at=now,
        leased_until=leased_until,
    )


def _first_open(webhook: Webhook) -> WebhookDelivery | None:
    waiting = webhook.deliveries.filter(status__in=OPEN)
    return waiting.select_related("event").order_by("seq").first()


def _message(webhook: Webhook, delivery: WebhookDelivery, attempt_id: UUID) -> Message | Outcome:
    try:
        body = _body(attempt_id, delivery)
        return Message(
            url=webhook.url,
            headers=_headers(webhook, body),
            body=body,
            is_trusted=_is_trusted(webhook),
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the others do not wait for it
        return _broke(delivery.id, error)


def _is_trusted(webhook: Webhook) -> bool:
    """Whether it leads to where the operator has registered the provider itself."""
    if webhook.addon is None:
        return False
    provider, url = httpx.URL(webhook.addon.service.base_url), httpx.URL(webhook.url)
    return (provider.scheme, provider.netloc) == (url.scheme, url.netloc)


def _broke(delivery_id: UUID, error: Exception) -> Outcome:
    logger.error("delivery %s broke", delivery_id, exc_info=error)
    return Outcome(code=None, error=type(error).__name__)


def _body(attempt_id: UUID, delivery: WebhookDelivery) -> bytes:
    event = delivery.event
    metadata = {
        "attempt": {"id": str(attempt_id)},
        "delivery": {"id": str(delivery.id)},
        "event": {"id": str(event.id), "include": event.include},
        "webhook": {"id": str(delivery.webhook_id)},
    }
    return json.dumps({**event.payload, "webhook_metadata": metadata}).encode()


def _headers(webhook: Webhook, body: bytes) -> dict[str, str]:
    signature = b64encode(hmac.digest(webhook.secret.encode(), body, "sha256")).decode()
    headers = {"Heroku-Webhook-Hmac-SHA256": signature}
    if webhook.authorization:
        headers["Authorization"] = webhook.authorization
    return headers


def _post(attempt: Attempt) -> Outcome:
    """In a thread of its own; without the database."""
    message = attempt.message
    if isinstance(message, Outcome):
        return message
    try:
        post = webhooks.post(
            message.url, message.headers, message.body, allow_private=message.is_trusted
        )
        code = asyncio.run(post)
    except WebhookFailed as failure:
        return Outcome(
            code=failure.status,
            error=type(failure).__name__,
            is_final=isinstance(failure, WebhookGone),
        )
    except Exception as error:  # noqa: BLE001 - likewise
        return _broke(attempt.delivery_id, error)
    return Outcome(code=code)


def _finish(attempt: Attempt, outcome: Outcome, now: datetime) -> None:
    """Write down how it went, and when the webhook is to be tried again: for the same delivery, at
    once for the next one, or not at all."""
    with transaction.atomic():
        # Unless it was removed, or its lease ended and another attempt was claimed.
        claimed = Webhook.objects.select_for_update(no_key=True).only("level", "next_attempt_at")
        webhook = claimed.filter(
            id=attempt.webhook_id, next_attempt_at=attempt.leased_until
        ).first()
        if webhook is None:
            return
        delivery = webhook.deliveries.filter(id=attempt.delivery_id).first()
        retry_at = None
        if delivery is not None:  # it may be old enough to be pruned
            retry_at = _retry_at(webhook, delivery, outcome, now)
            _note(delivery, attempt, outcome, retry_at, now)
        is_more = retry_at is None and webhook.deliveries.filter(status__in=OPEN).exists()
        webhook.next_attempt_at = now if is_more else retry_at
        webhook.save(update_fields=["next_attempt_at"])


def _retry_at(
    webhook: Webhook, delivery: WebhookDelivery, outcome: Outcome, now: datetime
) -> datetime | None:
    if outcome.error is None or outcome.is_final or webhook.level == "notify":
        return None
    retry_at = now + wait_after(delivery.attempts)
    return retry_at if retry_at < delivery.created_at + RETRIED_FOR else None


def wait_after(attempts: int) -> timedelta:
    """10 s after the first attempt, twice as long after each further one, up to an hour; of that
    a random part of at least a half, so that what failed together does not return together."""
    wait_s = min(FIRST_RETRY_S * 2 ** min(attempts - 1, 16), LONGEST_RETRY_S)
    return timedelta(seconds=wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret


def _note(
    delivery: WebhookDelivery,
    attempt: Attempt,
    outcome: Outcome,
    retry_at: datetime | None,
    now: datetime,
) -> None:
    if outcome.error is None:
        delivery.status = DeliveryStatus.SUCCEEDED
    else:
        delivery.status = DeliveryStatus.FAILED if retry_at is None else DeliveryStatus.RETRYING
    status = "failed" if outcome.error else "succeeded"
    delivery.last_attempt = _attempt_json(attempt.id, status, attempt.started_at, now, outcome)
    delivery.next_attempt_at = retry_at
    delivery.updated_at = now
    delivery.save(update_fields=["status", "last_attempt", "next_attempt_at", "updated_at"])


def _attempt_json(
    attempt_id: UUID,
    status: str,
    started_at: datetime,
    now: datetime,
    outcome: Outcome | None = None,
) -> dict[str, object]:
    """As the Platform API shows the last attempt of a delivery."""
    return {
        "id": str(attempt_id),
        "code": outcome.code if outcome else None,
        "error_class": outcome.error if outcome else None,
        "status": status,
        "created_at": iso(started_at),
        "updated_at": iso(now),
    }


def prune_webhooks(now: datetime) -> None:
    """Forget events and deliveries, and webhooks of what was destroyed, after KEPT."""
    old = WebhookEvent.objects.filter(created_at__lt=now - KEPT).order_by("created_at")
    while ids := list(old.values_list("id", flat=True)[:PRUNED_AT_ONCE]):
        WebhookEvent.objects.filter(id__in=ids).delete()
    ended = Q(addon__state=State.DEPROVISIONED, addon__updated_at__lt=now - KEPT)
    Webhook.objects.filter(Q(app__destroyed_at__lt=now - KEPT) | ended).delete()
