"""Rounds of the reconcilers without their threads, which would not see a test's transaction."""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial

from addon.platform import reconciliation
from addon.provider import callbacks, deliveries, log_delivery
from addon.rounds import Find

Clock = Callable[[], datetime]


def reconcile_platform(clock: Clock) -> None:
    _attend(partial(reconciliation.find_due, clock))


def reconcile_provider(clock: Clock) -> None:
    callbacks.purge(clock())
    _attend(partial(deliveries.find_due, clock))


def find_other_streams(clock: Clock) -> None:
    _attend(lambda but_of, _: log_delivery.find_refused(clock, but_of))


def _attend(find: Find) -> None:
    """Each step once, one after the other."""
    begun: set[object] = set()
    while due := [step for step in find((), 100) if step.row_id not in begun]:
        for step in due:
            begun.add(step.row_id)
            try:
                step.run()
            except Exception:
                logging.exception("%s failed", step.row_id)
