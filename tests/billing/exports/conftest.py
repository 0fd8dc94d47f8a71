"""Usage in the ledger whose export waits, and the settings of stand-ins for its destinations."""

from collections.abc import Callable
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


@pytest.fixture
def exporting_to(settings: Settings) -> Callable[..., None]:
    """Sets where exports go; what is not named is off."""

    def exporting_to(*, openmeter: str = "", stripe: str = "") -> None:
        settings.EXPORT_OPENMETER_URL = openmeter
        settings.EXPORT_OPENMETER_TOKEN = "om_token" if openmeter else ""
        settings.EXPORT_STRIPE_URL = stripe
        settings.EXPORT_STRIPE_KEY = "sk_test_1" if stripe else ""

    return exporting_to
