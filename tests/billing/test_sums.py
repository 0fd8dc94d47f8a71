"""Sums: written with the rows, equal to them whatever happens, and rebuilt from them."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from billing.bulk import record_many
from billing.metering import Usage
from billing.models import UsageEvent, UsageSum
from billing.periods import month_of
from billing.spend import ACCOUNT, app_scope, attachment_scope
from billing.sums import rebuild_sums, spend_by_customer, usage_between, verify_sums
from tests.billing.conftest import NewUsage
from tests.billing.ledger_writers import record_from_processes

DAY = datetime(2026, 3, 31, tzinfo=UTC)
IDS = [uuid.UUID(int=number) for number in range(2)]


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Of few customers, attachments and models, so that sums have several rows."""
    text_tokens = draw(st.integers(0, 2**31 - 1))
    return Usage(
        id=uuid7(),
        customer_id=draw(st.sampled_from(IDS)),
        resource_id=draw(st.sampled_from(IDS)),
        attachment_id=draw(st.sampled_from(IDS)),
        credential_id=draw(st.sampled_from(IDS)),
        attachment_name=draw(st.sampled_from(["EMBEDDING", "SEARCH"])),
        app_name=draw(st.sampled_from(["", "shop", "Büro"])),
        plan_name="heroku-inference:standard",
        price_id=draw(st.integers(1, 2)),
        model_id=draw(st.sampled_from(["a", "b"])),
        inputs=draw(st.integers(1, 96)),
        text_tokens=text_tokens,
        image_tokens=draw(st.integers(0 if text_tokens else 1, 1_000)),
        cost_picounits=draw(st.integers(0, 10**15)),
        requested_at=DAY,
    )


batches = st.lists(
    st.tuples(st.lists(usages(), max_size=8), st.integers(0, 3 * 24 * 3_600 - 1)), max_size=4
)


@pytest.mark.django_db
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=batches)
def test_sums_are_what_the_rows_come_to(
    django_db_blocker: Any, batches: list[tuple[list[Usage], int]]
) -> None:
    """Also after everything was recorded twice, and after the sums were lost."""
    with taken_back():
        expected: dict[tuple[Any, ...], list[int]] = {}
        for chosen, offset_s in batches:
            stored_at = DAY + timedelta(seconds=offset_s)
            assert record_many(chosen, stored_at=stored_at) == len(chosen)
            assert record_many(chosen, stored_at=stored_at) == 0
            for usage in chosen:
                add(expected, usage, stored_at)
        assert stored_sums() == expected
        assert verify_sums(DAY.date(), DAY.date() + timedelta(days=2)) == []
        UsageSum.objects.filter(granularity="hour").delete()
        UsageSum.objects.update(requests=99, cost_picounits=-1)
        rebuild_sums(DAY.date(), DAY.date() + timedelta(days=2))
        assert stored_sums() == expected


@contextmanager
def taken_back() -> Iterator[None]:
    """Examples share a transaction: each takes back what it wrote."""
    savepoint = transaction.savepoint()
    try:
        yield
    finally:
        transaction.savepoint_rollback(savepoint)


def add(sums: dict[tuple[Any, ...], list[int]], usage: Usage, stored_at: datetime) -> None:
    """By hand: an hour and a day."""
    hour = stored_at.replace(minute=0, second=0, microsecond=0)
    for span in (("hour", hour), ("day", hour.replace(hour=0))):
        key = (
            *span,
            usage.customer_id,
            usage.resource_id,
            usage.attachment_id,
            usage.credential_id,
            usage.attachment_name,
            usage.app_name,
            usage.price_id,
            usage.model_id,
        )
        amounts = sums.setdefault(key, [0, 0, 0, 0, 0])
        for index, amount in enumerate(
            (1, usage.inputs, usage.text_tokens, usage.image_tokens, usage.cost_picounits)
        ):
            amounts[index] += amount


def stored_sums() -> dict[tuple[Any, ...], list[int]]:
    found = UsageSum.objects.values_list(
        "granularity",
        "start_at",
        "customer_id",
        "resource_id",
        "attachment_id",
        "credential_id",
        "attachment_name",
        "app_name",
        "price_id",
        "model_id",
        "requests",
        "inputs",
        "text_tokens",
        "image_tokens",
        "cost_picounits",
    )
    return {row[:10]: list(row[10:]) for row in found if any(row[10:])}


@pytest.mark.django_db
def test_a_sum_that_is_wrong_is_reported_with_what_it_misses(new_usage: NewUsage) -> None:
    usage = new_usage()
    record_many([usage], stored_at=DAY)
    UsageSum.objects.filter(granularity="day").update(requests=3, cost_picounits=5)
    (mismatch,) = verify_sums(DAY.date(), DAY.date())
    assert (mismatch.granularity, mismatch.attachment_id) == ("day", usage.attachment_id)
    assert (mismatch.requests, mismatch.cost_picounits) == (-2, usage.cost_picounits - 5)
    assert verify_sums(DAY.date() + timedelta(days=1), DAY.date() + timedelta(days=1)) == []


@pytest.mark.django_db
def test_usage_between_is_by_resource_price_and_model(new_usage: NewUsage) -> None:
    first = new_usage(resource_id=IDS[0], customer_id=IDS[0])
    same = new_usage(resource_id=IDS[0], customer_id=IDS[0], app_name="other")
    dearer = new_usage(resource_id=IDS[0], customer_id=IDS[0], price_id=2, image_tokens=4)
    record_many([first, same, dearer, new_usage()], stored_at=DAY)
    record_many([new_usage(customer_id=IDS[0])], stored_at=DAY + timedelta(days=1))
    cheap, dear = usage_between(IDS[0], DAY, DAY + timedelta(days=1))
    assert (cheap.price_id, cheap.requests, cheap.text_tokens) == (1, 2, 34)
    assert cheap.cost_picounits == 2 * first.cost_picounits
    assert (dear.price_id, dear.requests, dear.image_tokens) == (2, 1, 4)
    assert usage_between(IDS[0], DAY, DAY + timedelta(hours=1)) == [cheap, dear]
    assert usage_between(IDS[0], DAY + timedelta(hours=1), DAY + timedelta(days=1)) == []


@pytest.mark.django_db
def test_usage_between_takes_whole_hours_only() -> None:
    with pytest.raises(ValueError, match="whole hours"):
        usage_between(IDS[0], DAY, DAY + timedelta(minutes=90))


@pytest.mark.django_db
def test_spend_is_by_account_app_and_attachment(new_usage: NewUsage) -> None:
    one = new_usage(customer_id=IDS[0], attachment_id=IDS[0], cost_picounits=3)
    two = new_usage(customer_id=IDS[0], attachment_id=IDS[1], cost_picounits=4)
    record_many([one, two], stored_at=DAY)
    record_many([new_usage(customer_id=IDS[0])], stored_at=month_of(DAY).end_at)
    assert spend_by_customer(month_of(DAY)) == {
        IDS[0]: {
            ACCOUNT: 7,
            app_scope("shop"): 7,
            attachment_scope(IDS[0]): 3,
            attachment_scope(IDS[1]): 4,
        }
    }


@pytest.fixture
def deadlocks(operator: psycopg.Connection[Any]) -> Iterator[None]:
    """None happens meanwhile."""

    def count() -> int:
        operator.execute("SELECT pg_stat_clear_snapshot()")
        (found,) = operator.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone() or (0,)
        return int(found)

    before = count()
    yield
    assert count() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("deadlocks")
def test_64_writers_on_one_attachment_never_deadlock(new_usage: NewUsage) -> None:
    """Each has a connection of its own, and half of the events are recorded by two of them."""
    template = new_usage()
    recorded = record_from_processes(template, processes=4, ledgers=16, events=40)
    assert UsageEvent.objects.count() == recorded
    today = datetime.now(UTC).date()
    assert verify_sums(today - timedelta(days=1), today) == []
    assert set(UsageSum.objects.values_list("attachment_id", flat=True)) == {template.attachment_id}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("deadlocks")
def test_a_rebuild_beside_writers_finds_nothing_and_breaks_nothing(new_usage: NewUsage) -> None:
    today = datetime.now(UTC).date()
    span = (today - timedelta(days=1), today)
    record_many([new_usage()])
    UsageSum.objects.update(cost_picounits=0, requests=7)
    assert rebuild_sums(*span) == 2
    writing = threading.Thread(
        target=record_from_processes,
        args=(new_usage(),),
        kwargs={"processes": 2, "ledgers": 4, "events": 100},
    )
    writing.start()
    while writing.is_alive():
        assert verify_sums(*span) == []
        assert rebuild_sums(*span) == 0
    writing.join()
    assert UsageEvent.objects.count() > 1
    assert verify_sums(*span) == []
