"""The tour of the Platform API, as a fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.billing.conftest import new_usage  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from tests.addon.platform.schema.tour import Exchange


_taken: list[Exchange] = []  # a tour takes seconds


@pytest.fixture
def exchanges(request: pytest.FixtureRequest) -> list[Exchange]:
    """What was sent and answered on a tour of all routes, which is taken once."""
    from tests.addon.platform.schema.tour import Tour

    if not _taken:
        request.getfixturevalue("provider")
        names = ("api", "account", "bad_provider", "new_usage")
        tour = Tour(**{name: request.getfixturevalue(name) for name in names})
        tour.take()
        _taken.extend(tour.exchanges)
    return _taken
