"""Metrics in Prometheus's format: what this process counted, and what the database says.

What a process counts has the label `process`, for each web process counts for itself; what is read
from the database is the same whichever process is asked.
"""

import os
from collections.abc import Iterable, Iterator
from datetime import datetime

from django.db.models import Count, F, Max, Min, Q
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from billing.counters import process_registry
from billing.models import Notification, OutboxEntry, Reconciliation, UsageEvent

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render_metrics(now: datetime) -> bytes:
    """The text of a scrape. Asks the database, so it belongs into a thread; raises DatabaseError
    rather than leave the figures of the database out."""
    scrape = CollectorRegistry()
    scrape.register(_OfThisProcess())
    scrape.register(_Given(_database_metrics(now)))
    return generate_latest(scrape)


class _OfThisProcess(Collector):
    """The process's own metrics, labelled with its id. Read at each scrape: a web process may be
    forked after this module was imported."""

    def collect(self) -> Iterator[Metric]:
        process = str(os.getpid())
        for metric in process_registry.collect():
            metric.samples = [
                sample._replace(labels={**sample.labels, "process": process})
                for sample in metric.samples
            ]
            yield metric


class _Given(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _database_metrics(now: datetime) -> Iterator[Metric]:
    yield from _outbox(now)
    yield from _notifications()
    yield from _reconciliations(now)
    yield from _ledger(now)


def _outbox(now: datetime) -> Iterator[Metric]:
    depth = _gauge("annex_outbox_entries", "Exports that wait, by destination.", "destination")
    age = _gauge(
        "annex_outbox_oldest_age_seconds",
        "Age of the oldest export that waits, by destination.",
        "destination",
    )
    aside = _gauge(
        "annex_outbox_set_aside_entries",
        "Exports that a destination does not take, set aside with the reason.",
        "destination",
    )
    waiting = Q(next_attempt_at__isnull=False)
    rows = OutboxEntry.objects.values_list("destination").annotate(
        waiting=Count("id", filter=waiting),
        oldest=Min("created_at", filter=waiting),
        aside=Count("id", filter=~waiting),
    )
    for destination, count, oldest, set_aside in rows:
        depth.add_metric([destination], count)
        age.add_metric([destination], (now - oldest).total_seconds() if oldest else 0)
        aside.add_metric([destination], set_aside)
    yield from (depth, age, aside)


def _notifications() -> Iterator[Metric]:
    pending = _gauge("annex_notifications_pending", "Notifications not delivered yet.", "channel")
    failed = _gauge(
        "annex_notifications_given_up", "Notifications that could not be delivered.", "channel"
    )
    rows = (
        Notification.objects.filter(delivered_at=None)
        .values_list("channel")
        .annotate(
            pending=Count("id", filter=Q(next_attempt_at__isnull=False)),
            failed=Count("id", filter=Q(next_attempt_at__isnull=True)),
        )
    )
    counts = {channel: (waiting, given_up) for channel, waiting, given_up in rows}
    for channel in Notification.Channel.values:
        waiting, given_up = counts.get(channel, (0, 0))
        pending.add_metric([channel], waiting)
        failed.add_metric([channel], given_up)
    yield from (pending, failed)


def _reconciliations(now: datetime) -> Iterator[Metric]:
    """Of kinds that were never compared there is no figure: 0 would say that they agree."""
    drift = _gauge(
        "annex_reconciliation_drift_picounits",
        "Sum of the differences found by the last comparison, by kind; other than 0 is an alarm.",
        "kind",
    )
    age = _gauge("annex_reconciliation_age_seconds", "Age of the last comparison.", "kind")
    last = Reconciliation.objects.order_by("kind", "-ran_at", "-id").distinct("kind")
    for reconciliation in last:
        drift.add_metric([reconciliation.kind], reconciliation.drift_picounits)
        age.add_metric([reconciliation.kind], (now - reconciliation.ran_at).total_seconds())
    yield from (drift, age)


def _ledger(now: datetime) -> Iterator[Metric]:
    """Rows are durable before their answers leave, so the ledger never lags behind those; its lag
    is what passed between a request and its row."""
    age = GaugeMetricFamily(
        "annex_ledger_newest_row_age_seconds", "Age of the newest row of the ledger."
    )
    lag = GaugeMetricFamily(
        "annex_ledger_lag_seconds",
        "Greatest time from a request until its row was stored, among the newest 100 rows.",
    )
    newest = UsageEvent.objects.filter(outcome=UsageEvent.Outcome.ANSWERED).order_by("-id")
    found = UsageEvent.objects.filter(id__in=newest.values("id")[:100]).aggregate(
        newest=Max("stored_at"), lag=Max(F("stored_at") - F("requested_at"))
    )
    if found["newest"] is not None:
        age.add_metric([], (now - found["newest"]).total_seconds())
        lag.add_metric([], found["lag"].total_seconds())
    yield from (age, lag)


def _gauge(name: str, description: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, description, labels=[label])
