"""Celery tasks of the provider."""

from collections.abc import Collection

from celery import shared_task
from django.utils import timezone

from addon import rounds
from addon.provider import callbacks, deliveries, log_delivery
from addon.rounds import Step
from billing.advisory_locks import alone


@shared_task(name="addon.provider.reconcile")
def reconcile() -> None:
    """Every 5 s, and after a request or a change: do what was accepted, call platforms back, and
    ask them for log streams. One run at a time; safe in parallel all the same."""
    with alone("addon.provider.reconcile") as is_alone:
        if is_alone:
            callbacks.purge(timezone.now())
            rounds.attend(_find_due)


def _find_due(but_of: Collection[str], limit: int) -> list[Step]:
    resources = deliveries.find_due(timezone.now, but_of, limit)
    return [*resources, *log_delivery.find_refused(timezone.now, but_of)]


@shared_task(name="addon.provider.send_log_lines")
def send_log_lines() -> None:
    """Every 5 s: send apps the log lines that wait. One run at a time."""
    with alone("addon.provider.send_log_lines") as is_alone:
        if is_alone:
            log_delivery.send_log_lines(timezone.now)
