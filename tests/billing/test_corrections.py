"""Corrections: new rows that name what they correct, and never take back more than there was."""

import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from billing.bulk import record_many
from billing.corrections import InvalidCorrection, UnknownUsageEvent, correct
from billing.metering import Usage, UsageConflict
from billing.models import OutboxEntry, Plan, Price, UsageEvent, UsageSum
from billing.sums import verify_sums
from tests.billing.conftest import NewUsage

pytestmark = pytest.mark.django_db

TEXT_PRICE, IMAGE_PRICE = 100_000, 470_000


@pytest.fixture
def recorded(new_usage: NewUsage) -> Usage:
    """2 inputs, 17 tokens."""
    plan = Plan.objects.create(
        service_name="test", slug=str(uuid4()), requests_per_minute=1, tokens_per_minute=1
    )
    price = Price.objects.create(
        plan=plan,
        version=1,
        active_from=datetime(2026, 1, 1, tzinfo=UTC),
        token_prices={"*": TEXT_PRICE},
        image_token_prices={"*": IMAGE_PRICE},
    )
    usage = new_usage(price_id=price.id, cost_picounits=17 * TEXT_PRICE)
    record_many([usage])
    return usage


def change(event: UUID, **changes: Any) -> Usage | None:
    arguments: dict[str, Any] = {
        "id": uuid7(),
        "inputs": 2,
        "text_tokens": 17,
        "reason": "counted twice",
        "now": datetime.now(UTC),
    }
    return correct(event, **arguments | changes)


def totals() -> tuple[int, int, int, int]:
    """Inputs, text and image tokens and cost by the day's sum, which counts one request."""
    today = datetime.now(UTC).date()
    assert verify_sums(today, today) == []
    (found,) = UsageSum.objects.filter(granularity="day").values_list(
        "requests", "inputs", "text_tokens", "image_tokens", "cost_picounits"
    )
    assert found[0] == 1
    return found[1:]


def test_a_correction_is_a_new_row_of_the_difference(recorded: Usage) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    correction = change(recorded.id, inputs=1, text_tokens=10, now=now, destinations=["stripe"])
    assert correction is not None
    assert correction == replace(
        recorded,
        id=correction.id,
        outcome="correction",
        corrects=recorded.id,
        reason="counted twice",
        inputs=-1,
        text_tokens=-7,
        cost_picounits=-7 * TEXT_PRICE,
        requested_at=now,
    )
    assert UsageEvent.objects.get(id=recorded.id).text_tokens == 17
    assert totals() == (1, 10, 0, 10 * TEXT_PRICE)
    assert OutboxEntry.objects.get().event_id == correction.id


def test_images_have_their_own_price(recorded: Usage) -> None:
    change(recorded.id, image_tokens=3)
    assert totals() == (2, 17, 3, 17 * TEXT_PRICE + 3 * IMAGE_PRICE)


def test_all_of_it_can_be_taken_back(recorded: Usage) -> None:
    change(recorded.id, inputs=0, text_tokens=0)
    assert totals() == (0, 0, 0, 0)


def test_a_correction_repeated_by_its_id_changes_nothing(recorded: Usage) -> None:
    id_ = uuid7()
    first = change(recorded.id, id=id_, text_tokens=10)
    change(recorded.id, text_tokens=12)
    assert change(recorded.id, id=id_, text_tokens=10) == first
    assert totals()[1] == 12


def test_what_the_ledger_says_already_needs_no_row(recorded: Usage) -> None:
    assert change(recorded.id) is None
    change(recorded.id, text_tokens=10)
    assert change(recorded.id, text_tokens=10) is None
    assert UsageEvent.objects.count() == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text_tokens", -1),
        ("image_tokens", -1),
        ("inputs", -1),
        ("text_tokens", 2**31),
        ("reason", ""),
        ("reason", "  "),
        ("reason", "x" * 501),
    ],
)
def test_nothing_below_zero_and_nothing_without_a_reason(
    recorded: Usage, field: str, value: Any
) -> None:
    with pytest.raises(InvalidCorrection) as invalid:
        change(recorded.id, **{field: value})
    assert invalid.value.field == field
    assert UsageEvent.objects.count() == 1


def test_only_answered_requests_are_corrected(recorded: Usage) -> None:
    correction = change(recorded.id, text_tokens=10)
    assert correction is not None
    for event in (uuid7(), correction.id):
        with pytest.raises(UnknownUsageEvent):
            change(event, text_tokens=5)


def test_the_id_of_another_row_is_a_conflict(recorded: Usage, new_usage: NewUsage) -> None:
    other = new_usage()
    record_many([other])
    with pytest.raises(UsageConflict):
        change(recorded.id, id=other.id, text_tokens=10)


@pytest.mark.parametrize("changes", [{"text_tokens": 11}, {"inputs": 1}, {"reason": "other"}])
def test_the_id_of_a_correction_with_other_content_is_a_conflict(
    recorded: Usage, changes: dict[str, Any]
) -> None:
    id_ = uuid7()
    change(recorded.id, id=id_, text_tokens=10)
    with pytest.raises(UsageConflict):
        change(recorded.id, id=id_, **{"text_tokens": 10, **changes})
    assert totals()[1] == 10


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    corrections=st.lists(
        st.tuples(st.integers(0, 96), st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1
    )
)
def test_after_any_corrections_the_last_one_holds(
    recorded: Usage, corrections: list[tuple[int, int, int]]
) -> None:
    for inputs, text_tokens, image_tokens in corrections:
        change(recorded.id, inputs=inputs, text_tokens=text_tokens, image_tokens=image_tokens)
        cost = text_tokens * TEXT_PRICE + image_tokens * IMAGE_PRICE
        assert totals() == (inputs, text_tokens, image_tokens, cost)


@pytest.mark.django_db(transaction=True)
def test_corrections_at_the_same_moment_are_made_one_after_the_other(recorded: Usage) -> None:
    def run() -> None:
        try:
            change(recorded.id, text_tokens=10)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert UsageEvent.objects.count() == 2
    assert totals()[1] == 10
