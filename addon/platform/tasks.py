"""Celery tasks of the platform."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from addon.platform import reconciliation, webhook_deliveries
from addon.rounds import is_stopping
from billing.advisory_locks import alone

WAKE_EXPIRES_S = 5.0  # beat's next round comes by then


@shared_task(name="addon.platform.reconcile")
def reconcile() -> None:
    """Every 5 s: drive what is overdue. One run at a time; safe in parallel all the same."""
    with alone("addon.platform.reconcile") as is_alone:
        if is_alone:
            reconciliation.reconcile(timezone.now)


@shared_task(name="addon.platform.deliver_webhooks")
def deliver_webhooks() -> None:
    """After a change, and every 5 s for what is to be tried again. One run at a time."""
    with alone("addon.platform.deliver_webhooks") as is_alone:
        if is_alone:
            webhook_deliveries.deliver_webhooks(timezone.now, is_stopping)


def due_soon(webhook_ids: Sequence[UUID], now: datetime) -> None:
    """Once the transaction holds, deliver what the webhooks have to. Where that fails, the periodic
    tasks come to it."""

    def wake() -> None:
        if webhook_deliveries.make_due(webhook_ids, now):
            deliver_webhooks.apply_async(expires=WAKE_EXPIRES_S, retry=False)

    transaction.on_commit(wake, robust=True)


@shared_task(name="addon.platform.revive_webhooks")
def revive_webhooks() -> None:
    """Every minute, most often for nothing: deliveries of a process that died after its commit."""
    webhook_deliveries.revive_webhooks(timezone.now())


@shared_task(name="addon.platform.prune_webhooks")
def prune_webhooks() -> None:
    """Every hour: forget events that are old enough."""
    webhook_deliveries.prune_webhooks(timezone.now())
