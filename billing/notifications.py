"""Notifications: told by e-mail or webhook, from rows written with what they tell of.

A notification is a row first, in the transaction of what it is about, and sent afterwards by a
task. Each attempt is claimed before it is made, so one that is cut off is made again after LEASE_S:
a receiver may hear twice, under one id, but never not at all.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from smtplib import SMTPException, SMTPRecipientsRefused
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.db.models import QuerySet, Value

from billing import webhooks
from billing.models import Budget, Notification
from billing.models.budgets import recipient
from billing.webhooks import WebhookFailed, WebhookGone

logger = logging.getLogger(__name__)

# What Standard Webhooks proposes, and nothing after it.
RETRIES_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
LEASE_S = 120
WEBHOOKS_AT_ONCE = 50
EMAILS_A_RUN = 100
# Nobody is asked whether an address is theirs, so this is what a stranger can have sent to it.
A_DAY_MAX = {Notification.Channel.EMAIL: 20, Notification.Channel.WEBHOOK: 200}
DAY = timedelta(hours=24)
# Delivered or given up.
KEPT = timedelta(days=30)
PURGED_A_RUN = 1_000

Clock = Callable[[], datetime]


class TooManyNotifications(Exception):
    """The recipient has had A_DAY_MAX of them within DAY; the message says so."""


class EmailFailed(Exception):
    """The mail server is not set up or does not work; the message says why."""


class EmailRefused(Exception):
    """The mail server works, and does not take this one; the message says why."""


class DeliveryBroke(Exception):
    """An error that nobody foresaw; the log has it."""


def queue_email(address: str, *, subject: str, text: str, now: datetime) -> Notification:
    """Runs in its caller's transaction. Raises TooManyNotifications."""
    _check_recipient(Notification.Channel.EMAIL, address, now)
    return Notification.objects.create(
        channel=Notification.Channel.EMAIL,
        target=address,
        subject=subject,
        payload={"text": text},
        next_attempt_at=now,
        created_at=now,
    )


def queue_webhook(
    url: str, secret: str, *, event: str, data: dict[str, Any], now: datetime
) -> Notification:
    """Runs in its caller's transaction. Raises TooManyNotifications."""
    _check_recipient(Notification.Channel.WEBHOOK, url, now)
    return Notification.objects.create(
        channel=Notification.Channel.WEBHOOK,
        target=url,
        secret=secret,
        subject=event,
        payload={"type": event, "timestamp": now.isoformat(), "data": data},
        next_attempt_at=now,
        created_at=now,
    )


def _check_recipient(channel: Notification.Channel, target: str, now: datetime) -> None:
    """Until the transaction ends, nobody else counts or queues in this channel.
    Raises TooManyNotifications."""
    with connection.cursor() as cursor:
        # One lock a channel: a lock by target would let tagged addresses count side by side.
        key = f"billing.notifications {channel}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [key])
    queued = Notification.objects.alias(recipient=recipient("target")).filter(
        channel=channel, recipient=recipient(Value(target)), created_at__gt=now - DAY
    )
    if queued.count() >= A_DAY_MAX[channel]:
        raise TooManyNotifications(
            f"{channel.label}: {target} has had {A_DAY_MAX[channel]} within 24 hours"
        )


def deliver_notifications(clock: Clock) -> int:
    """Try once what is due; returns how many were delivered. Safe to run in parallel."""
    _purge(clock())
    return _deliver_webhooks(clock) + _deliver_emails(clock)


def send_again(notifications: "QuerySet[Notification]", now: datetime) -> None:
    """Try them from the first attempt on, whether they were delivered or given up."""
    notifications.update(attempts=0, next_attempt_at=now, delivered_at=None, last_error="")


def _purge(now: datetime) -> None:
    ended = Notification.objects.filter(next_attempt_at=None, created_at__lt=now - KEPT)
    batch = ended.order_by("created_at").values("id")[:PURGED_A_RUN]
    Notification.objects.filter(id__in=batch).delete()


def _deliver_webhooks(clock: Clock) -> int:
    delivered = 0
    while claimed := _claim(Notification.Channel.WEBHOOK, WEBHOOKS_AT_ONCE, clock()):
        failures = asyncio.run(_post_all(claimed, [*map(_read_secret, claimed)], clock()))
        for notification, failure in zip(claimed, failures, strict=True):
            _finish(notification, failure, clock())
            delivered += failure is None
    return delivered


def _read_secret(notification: Notification) -> str | DeliveryBroke:
    """Each by itself: one that none of the keys decrypts keeps no other waiting."""
    try:
        return notification.secret
    except Exception as error:  # noqa: BLE001 - whatever it is, the others do not wait for it
        return _broke(notification, error)


async def _post_all(
    notifications: Sequence[Notification], secrets: Sequence[str | DeliveryBroke], now: datetime
) -> list[Exception | None]:
    """At the same time, so that one that hangs keeps no other waiting."""
    posts = (_post(each, secret, now) for each, secret in zip(notifications, secrets, strict=True))
    return list(await asyncio.gather(*posts))


async def _post(
    notification: Notification, secret: str | DeliveryBroke, now: datetime
) -> Exception | None:
    if isinstance(secret, DeliveryBroke):
        return secret
    body = json.dumps(notification.payload)
    try:
        headers = webhooks.sign(secret, str(notification.id), body, now)
        await webhooks.post(notification.target, headers, body.encode())
    except WebhookFailed as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever it is, the others do not wait for it
        return _broke(notification, error)
    return None


def _broke(notification: Notification, error: Exception) -> DeliveryBroke:
    logger.error("notification %s broke", notification.id, exc_info=error)
    return DeliveryBroke(f"an error in Annex, which its log has: {type(error).__name__}")


def _deliver_emails(clock: Clock) -> int:
    """Until the mail server fails: it would fail for the others too."""
    delivered = 0
    for _ in range(EMAILS_A_RUN):
        claimed = _claim(Notification.Channel.EMAIL, 1, clock())
        if not claimed:
            break
        failure = _try_email(claimed[0])
        _finish(claimed[0], failure, clock())
        if isinstance(failure, EmailFailed):
            break
        delivered += failure is None
    return delivered


def _try_email(notification: Notification) -> Exception | None:
    try:
        _send_email(notification)
    except (EmailFailed, EmailRefused) as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever it is, the others do not wait for it
        return _broke(notification, error)
    return None


def _send_email(notification: Notification) -> None:
    """Raises EmailFailed, EmailRefused."""
    if not settings.EMAIL_URL:
        raise EmailFailed("EMAIL_URL is not set, so no e-mails are sent")
    message = EmailMessage(
        subject=notification.subject,
        body=notification.payload["text"],
        to=[notification.target],
        headers={"Message-ID": f"<{notification.id}@annex>"},  # of each attempt the same
    )
    try:
        message.send()
    except SMTPRecipientsRefused as error:
        raise EmailRefused("the mail server refused the address") from error
    except (SMTPException, OSError) as error:
        raise EmailFailed(f"the mail server did not take it: {error}"[:500]) from error


def _claim(channel: Notification.Channel, count: int, now: datetime) -> list[Notification]:
    """Those that are due, for LEASE_S; their attempt is counted before it is made."""
    with transaction.atomic():
        due = Notification.objects.filter(channel=channel, next_attempt_at__lte=now).defer("secret")
        locked = due.select_for_update(skip_locked=True).order_by("next_attempt_at")
        claimed = list(locked[:count])
        for notification in claimed:
            notification.attempts += 1
            notification.next_attempt_at = now + timedelta(seconds=LEASE_S)
        Notification.objects.bulk_update(claimed, ["attempts", "next_attempt_at"])
    return claimed


def _finish(notification: Notification, failure: Exception | None, now: datetime) -> None:
    """Write down how the attempt ended, unless another attempt was claimed since."""
    next_attempt_at = None if failure is None else _next_attempt(notification, failure, now)
    Notification.objects.filter(id=notification.id, attempts=notification.attempts).update(
        delivered_at=None if failure else now,
        next_attempt_at=next_attempt_at,
        last_error=str(failure or ""),
    )
    if failure is not None and next_attempt_at is None:
        logger.warning("gave up notification %s: %s", notification.id, failure)
    if isinstance(failure, WebhookGone):
        _disable_webhook(notification)


def _next_attempt(notification: Notification, failure: Exception, now: datetime) -> datetime | None:
    is_final = isinstance(failure, WebhookGone) or (
        isinstance(failure, EmailFailed) and not settings.EMAIL_URL
    )
    if is_final or notification.attempts > len(RETRIES_S):
        return None
    return now + timedelta(seconds=RETRIES_S[notification.attempts - 1])


def _disable_webhook(notification: Notification) -> None:
    """Take the URL from the budget that it was for, unless it has another by now."""
    budget_id = notification.payload["data"]["budget_id"]
    Budget.objects.filter(id=budget_id, webhook_url=notification.target).update(webhook_url="")
