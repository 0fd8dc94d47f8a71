"""Celery tasks of inference that run in the control plane's worker."""

from celery import shared_task
from django.utils import timezone

from inference import idempotency


@shared_task(name="inference.purge_idempotency_keys")
def purge_idempotency_keys() -> None:
    """Every minute: delete the answers that are no longer kept. Safe to run twice."""
    idempotency.purge(timezone.now())
