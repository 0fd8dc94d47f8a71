"""Leases: kept while their holder works, and no longer."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection

from addon import leases
from addon.lifecycle import State
from addon.platform.accounts import create_account
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import (
    Api,
    api_of,
    fast_db_answer,
    new_app,
    only_addon,
    selling_bad_provider,
)

TICK_S = 0.03


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that renews leases may be asleep already, for as long as it was to."""
    monkeypatch.setattr(leases, "RENEWED_AFTER_S", TICK_S)
    monkeypatch.setattr(leases, "_renewer", None)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def noting(renewals: list[timedelta], *, holds: bool) -> Callable[[timedelta], bool]:
    def renew(by: timedelta) -> bool:
        renewals.append(by)
        return holds

    return renew


class TestKept:
    def test_is_renewed_by_as_much_as_has_passed(self) -> None:
        renewals: list[timedelta] = []
        began = time.monotonic()
        with leases.kept(noting(renewals, holds=True)):
            wait_until(lambda: len(renewals) >= 3)
        assert 0 < sum(renewals, timedelta()).total_seconds() < time.monotonic() - began

    def test_is_not_renewed_once_it_has_ended_or_is_lost(self) -> None:
        renewals: list[timedelta] = []
        with leases.kept(noting(renewals, holds=False)):
            wait_until(lambda: bool(renewals))
            time.sleep(3 * TICK_S)
        time.sleep(3 * TICK_S)
        assert len(renewals) == 1

    def test_survives_a_database_that_is_away_for_a_moment(self) -> None:
        renewals: list[timedelta] = []

        def renew(by: timedelta) -> bool:
            renewals.append(by)
            if len(renewals) == 1:
                raise DatabaseError("away")
            return True

        with leases.kept(renew):
            wait_until(lambda: len(renewals) >= 2)
        assert renewals[1] > renewals[0]


@pytest.mark.django_db(transaction=True)
class TestAProviderThatIsSlow:
    @pytest.fixture
    def bad_provider(self) -> Iterator[BadProvider]:
        with selling_bad_provider() as provider:
            yield provider

    @pytest.fixture
    def api(self) -> Api:
        account = create_account("dev@example.com")
        new_app(account, "shop")
        return api_of(account)

    def test_is_not_asked_twice_at_once(self, api: Api, bad_provider: BadProvider) -> None:
        seen: list[bool] = []

        def meanwhile() -> None:
            first = only_addon().next_attempt_at
            assert first is not None
            wait_until(lambda: only_addon().next_attempt_at != first)
            addon = only_addon()
            seen.append(addon.next_attempt_at is not None and addon.next_attempt_at > first)
            connection.close()

        bad_provider.will("POST", 201, fast_db_answer("up"), before=meanwhile)
        api.add("shop", "DB", plan="fast-db")
        name = only_addon().name
        bad_provider.will("DELETE", 204, before=meanwhile)
        api.delete(f"/apps/shop/addons/{name}")
        assert only_addon().state == State.DEPROVISIONED
        assert seen == [True, True]
