"""Celery tasks of billing. Each is safe to run twice and in parallel."""

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from billing import budgets, invoices, notifications, partitions, reconciliation
from billing.advisory_locks import alone
from billing.exports import delivery


@shared_task(name="billing.check_budgets")
def check_budgets() -> None:
    """Every 30 s: tell of the thresholds that budgets reached."""
    budgets.check_budgets(timezone.now())


@shared_task(name="billing.deliver_notifications")
def deliver_notifications() -> None:
    """Every 5 s: send what is to be told."""
    with alone("billing.deliver_notifications") as is_alone:
        if is_alone:
            notifications.deliver_notifications(timezone.now)


@shared_task(name="billing.deliver_exports")
def deliver_exports() -> None:
    """Every 10 s: send rows of the ledger to where they are exported."""
    with alone("billing.deliver_exports") as is_alone:
        if is_alone:
            delivery.deliver_exports(timezone.now)


@shared_task(name="billing.keep_partitions")
def keep_partitions() -> None:
    """Every hour, most often for nothing: the ledger's next months, and what is old enough."""
    now = timezone.now()
    with alone("billing.keep_partitions") as is_alone:
        if is_alone:
            partitions.make_partitions(now)
            partitions.drop_partitions(now, settings.LEDGER_RETENTION_MONTHS)


@shared_task(name="billing.reconcile_limiter")
def reconcile_limiter() -> None:
    """Every 5 minutes: what the limiter counts as spent is what the ledger says."""
    reconciliation.reconcile_limiter(settings.REDIS_URL, timezone.now())


@shared_task(name="billing.reconcile_ledger")
def reconcile_ledger() -> None:
    """Every night: rows, sums and invoices say the same."""
    reconciliation.reconcile_sums(timezone.now(), days=reconciliation.SUMS_DAYS)
    reconciliation.reconcile_invoices(timezone.now())


@shared_task(name="billing.close_invoices")
def close_invoices() -> None:
    """Every 15 minutes, most often for nothing: the invoices of the months that are over."""
    invoices.close_due(invoices.read_clock())
