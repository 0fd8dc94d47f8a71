"""Celery tasks of the provider."""

from uuid import UUID

from celery import shared_task
from django.utils import timezone

from addon.provider import deliveries, log_delivery


@shared_task(name="addon.provider.drive")
def drive(resource_id: str) -> None:
    """After a request or a change: do what was accepted, and call the platform back. Safe to run
    twice and in parallel."""
    deliveries.drive(UUID(resource_id), timezone.now)


@shared_task(name="addon.provider.reconcile")
def reconcile() -> None:
    """Every 15 s: drive every resource that is due. Safe to run twice and in parallel."""
    deliveries.reconcile(timezone.now)


@shared_task(name="addon.provider.send_log_lines")
def send_log_lines() -> None:
    """Every 5 s: send apps the log lines that wait. One run at a time."""
    log_delivery.send_log_lines(timezone.now)
