"""Celery tasks of the platform."""

from celery import shared_task
from django.utils import timezone

from addon.platform import reconciliation


@shared_task(name="addon.platform.reconcile")
def reconcile() -> None:
    """Every 15 s: drive what is overdue. Safe to run twice and in parallel."""
    reconciliation.reconcile(timezone.now)
