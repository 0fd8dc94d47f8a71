"""Usage in the ledger whose export waits, and the settings of stand-ins for its destinations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_django import Settings

from billing.bulk import record_many
from billing.exports import enabled_destinations
from billing.metering import Usage
from tests.billing.conftest import NewUsage

Record = Callable[..., list[Usage]]


@pytest.fixture
def record(new_usage: NewUsage) -> Record:
    """Records that many usage events, for the destinations that are on."""

    def record(count: int = 1, **changes: Any) -> list[Usage]:
        usages = [new_usage(**changes) for _ in range(count)]
        record_many(usages, destinations=enabled_destinations())
        return usages

    return record


@dataclass
class Stopwatch:
    """Takes the place of the module `time`, and stands still until it is told."""

    seconds: float = 0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """The clock of runs of exports."""
    stopwatch = Stopwatch()
    for module in ("delivery", "openmeter", "stripe"):
        monkeypatch.setattr(f"billing.exports.{module}.time", stopwatch)
    return stopwatch


@pytest.fixture
def exporting_to(settings: Settings) -> Callable[..., None]:
    """Sets where exports go; what is not named is off."""

    def exporting_to(*, openmeter: str = "", stripe: str = "") -> None:
        settings.EXPORT_OPENMETER_URL = openmeter
        settings.EXPORT_OPENMETER_TOKEN = "om_token" if openmeter else ""
        settings.EXPORT_STRIPE_URL = stripe
        settings.EXPORT_STRIPE_KEY = "sk_test_1" if stripe else ""

    return exporting_to
