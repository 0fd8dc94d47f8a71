"""What this process counts; billing/metrics.py shows it. Needs no tables, so anything may count."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

process_registry = CollectorRegistry()

RESERVATIONS = Counter(
    "annex_limiter_reservations", "Reservations made by the limiter.", registry=process_registry
)
REFUSALS = Counter(
    "annex_limiter_refusals",
    "Requests refused by the limiter, by the limit that was reached.",
    ["limit"],
    registry=process_registry,
)
SHADOW_REFUSALS = Counter(
    "annex_limiter_shadow_refusals",
    "Requests let through over a limit that is in shadow mode, by the limit.",
    ["limit"],
    registry=process_registry,
)
LOCAL_ADMISSIONS = Counter(
    "annex_limiter_local_admissions",
    "Requests let through on this process's own share while Redis was away.",
    registry=process_registry,
)
IS_LOCAL = Gauge(
    "annex_limiter_is_local",
    "1 while this process limits by its own share because Redis is away, else 0.",
    registry=process_registry,
)
RECORDING_SECONDS = Histogram(
    "annex_ledger_recording_seconds",
    "Seconds from handing a usage event to the ledger until it is durable; their count is that of "
    "the events that were recorded.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    registry=process_registry,
)
