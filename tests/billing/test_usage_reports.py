"""Usage reports come to what the ledger's rows come to, however they are cut into pages."""

import base64
import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.bulk import record_many
from billing.metering import Usage
from billing.models import Plan, Price
from billing.plans import sync_plans
from billing.usage_reports import (
    DIMENSIONS,
    Granularity,
    InvalidCursor,
    Query,
    Report,
    Row,
    ceil_to_bucket,
    floor_to_bucket,
    read_report,
)
from tests.billing.conftest import NewUsage

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 11, 4, tzinfo=UTC)
ACCOUNT, STRANGER = uuid.UUID(int=1), uuid.UUID(int=2)

Stored = tuple[datetime, Usage]


@contextmanager
def rolled_back() -> Iterator[None]:
    """What the block stores is gone after it: hypothesis runs many examples in one test."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def pages(query: Query) -> list[Report]:
    """All pages, from the first to the last."""
    found = [read_report(query)]
    while found[-1].next_cursor:
        found.append(read_report(replace(query, cursor=found[-1].next_cursor)))
    return found


def rows(query: Query) -> list[Row]:
    return [row for page in pages(query) for row in page.rows]


def query(**changes: Any) -> Query:
    wanted: dict[str, Any] = {
        "granularity": "hour",
        "start_at": START,
        "end_at": END,
        "limit": 1_000,
    }
    if "attachment_id" not in changes:
        wanted["customer_id"] = ACCOUNT
    return Query(**{**wanted, **changes})


usages: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    customer_id=st.sampled_from([ACCOUNT, STRANGER]),
    attachment_id=st.integers(10, 12).map(lambda number: uuid.UUID(int=number)),
    credential_id=st.integers(20, 21).map(lambda number: uuid.UUID(int=number)),
    app_name=st.sampled_from(["", "shop", "Blog", "ä"]),
    model_id=st.sampled_from(["all-minilm-l6-v2", "embed", "Z"]),
    inputs=st.integers(1, 96),
    text_tokens=st.integers(1, 10**6),
    image_tokens=st.integers(0, 1_000),
    cost_picounits=st.integers(0, 10**15),
)
moments = st.integers(-30, 100).map(lambda hours: START + timedelta(hours=hours, minutes=59))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    stored=st.lists(st.tuples(moments, usages), max_size=25),
    granularity=st.sampled_from(["hour", "day"]),
    group_by=st.permutations(list(DIMENSIONS)).flatmap(
        lambda names: st.integers(0, 4).map(lambda count: tuple(names[:count]))
    ),
    limit=st.integers(1, 7),
    models=st.sets(st.sampled_from(["all-minilm-l6-v2", "Z"])),
    apps=st.sets(st.sampled_from(["shop", ""])),
    by_attachment=st.booleans(),
)
def test_a_report_is_what_the_rows_come_to(
    new_usage: NewUsage,
    stored: Sequence[tuple[datetime, dict[str, Any]]],
    granularity: Granularity,
    group_by: tuple[str, ...],
    limit: int,
    models: set[str],
    apps: set[str],
    by_attachment: bool,
) -> None:
    with rolled_back():
        events = [(at, new_usage(**usage)) for at, usage in stored]
        for at, usage in events:
            record_many([usage], stored_at=at)
        whose = {"attachment_id": uuid.UUID(int=10)} if by_attachment else {}
        asked = query(
            granularity=granularity,
            group_by=group_by,
            limit=limit,
            models=tuple(models),
            apps=tuple(apps),
            **whose,
        )
        found = pages(asked)
        assert all(len(page.rows) == limit for page in found[:-1])
        got = [row for page in found for row in page.rows]
        expected = sums_of([event for event in events if is_asked(asked, *event)], asked)
        keys = [key_of(row) for row in got]
        assert len(keys) == len(set(keys))
        assert {
            key_of(row): (
                row.requests,
                row.inputs,
                row.text_tokens,
                row.image_tokens,
                row.cost_picounits,
            )
            for row in got
        } == expected
        assert [row.start_at for row in got] == sorted(row.start_at for row in got)


def is_asked(query: Query, at: datetime, usage: Usage) -> bool:
    return (
        query.start_at <= at < query.end_at
        and (query.customer_id in (None, usage.customer_id))
        and (query.attachment_id in (None, usage.attachment_id))
        and (not query.models or usage.model_id in query.models)
        and (not query.apps or usage.app_name in query.apps)
    )


def sums_of(events: Sequence[Stored], query: Query) -> dict[Any, tuple[int, ...]]:
    """The amounts by (start, groups…), added up one by one."""
    amounts: dict[str, Counter[Any]] = {}
    for at, usage in events:
        groups = [str(getattr(usage, DIMENSIONS[name][0])) for name in query.group_by]
        key = (floor_to_bucket(at, query.granularity), *groups)
        for name in ("inputs", "text_tokens", "image_tokens", "cost_picounits"):
            amounts.setdefault(name, Counter())[key] += getattr(usage, name)
        amounts.setdefault("requests", Counter())[key] += 1
    return {
        key: (
            requests,
            amounts["inputs"][key],
            amounts["text_tokens"][key],
            amounts["image_tokens"][key],
            amounts["cost_picounits"][key],
        )
        for key, requests in amounts.get("requests", Counter()).items()
    }


def key_of(row: Row) -> tuple[Any, ...]:
    return (row.start_at, *row.groups.values())


def test_attachments_are_found_by_id_and_by_name(new_usage: NewUsage) -> None:
    kept = new_usage(customer_id=ACCOUNT, attachment_name="SEARCH")
    other = new_usage(customer_id=ACCOUNT, attachment_name="OTHER")
    record_many([kept, other], stored_at=START)
    for wanted in ("SEARCH", str(kept.attachment_id)):
        (row,) = rows(query(attachments=(wanted,), group_by=("attachment",)))
        assert row.groups == {"attachment": str(kept.attachment_id)}
        assert row.attachment_name == "SEARCH"
    assert rows(query(attachments=("nothing",))) == []


def test_a_customer_sees_nothing_of_another(new_usage: NewUsage) -> None:
    hers = new_usage(customer_id=STRANGER)
    record_many([hers], stored_at=START)
    assert rows(query()) == []
    assert rows(query(attachments=(str(hers.attachment_id),))) == []
    assert rows(query(attachment_id=uuid.uuid4())) == []
    page = read_report(query(customer_id=STRANGER, limit=1))
    assert len(page.rows) == 1


def test_a_cursor_shows_nothing_of_another(new_usage: NewUsage) -> None:
    record_many([new_usage(customer_id=STRANGER) for _ in range(3)], stored_at=START)
    hers = query(customer_id=STRANGER, group_by=("attachment",), limit=1)
    cursor = read_report(hers).next_cursor
    assert cursor
    assert read_report(replace(hers, customer_id=ACCOUNT, cursor=cursor)).rows == []


def test_corrections_count_where_they_were_stored(new_usage: NewUsage) -> None:
    usage = new_usage(customer_id=ACCOUNT, cost_picounits=100)
    correction = replace(
        usage,
        id=new_usage().id,
        outcome="correction",
        reason="counted twice",
        corrects=usage.id,
        inputs=-1,
        text_tokens=-7,
        cost_picounits=-40,
    )
    record_many([usage], stored_at=START)
    record_many([correction], stored_at=START + timedelta(hours=1))
    first, second = rows(query())
    assert (first.requests, first.text_tokens, first.cost_picounits) == (1, 17, 100)
    assert (second.requests, second.text_tokens, second.cost_picounits) == (0, -7, -40)


def test_each_currency_has_rows_of_its_own(new_usage: NewUsage) -> None:
    sync_plans()
    plan = Plan.objects.exclude(prices=None)[0]
    prices = [
        Price.objects.create(
            plan=plan, version=900 + day, active_from=START + timedelta(days=day), currency=currency
        )
        for day, currency in enumerate(("eur", "usd"))
    ]
    events = [
        new_usage(customer_id=ACCOUNT, price_id=price.id, cost_picounits=5) for price in prices
    ]
    record_many(events, stored_at=START)
    found = rows(query(limit=1))
    assert [(row.currency, row.cost_picounits) for row in found] == [("eur", 5), ("usd", 5)]


@pytest.mark.parametrize(
    "cursor",
    ["x", "!", "bnVsbA", "W10", "WyJob3VyIixbXV0", "WyJob3VyIixbXSxbIngiLCJ1c2QiXV0", "8J+"],
)
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        read_report(query(cursor=cursor))


@pytest.mark.parametrize(
    ("group_by", "values"),
    [
        (("model",), ["2026-11-01T00:00:00Z", "\ud800", "usd"]),
        (("model",), ["2026-11-01T00:00:00Z", "\0", "usd"]),
        (("key",), ["2026-11-01T00:00:00Z", "key", "usd"]),
        ((), ["0001-01-01T00:00:00+23:59", "usd"]),
        ((), ["9999-12-31T23:59:59-23:59", "usd"]),
    ],
)
def test_a_forged_cursor_is_refused(group_by: tuple[str, ...], values: list[str]) -> None:
    content = json.dumps(["hour", group_by, values]).encode()
    with pytest.raises(InvalidCursor):
        read_report(query(group_by=group_by, cursor=base64.urlsafe_b64encode(content).decode()))


@pytest.mark.parametrize(
    ("group_by", "values"),
    [
        ((), ["2026-W45-1", "usd"]),
        (("key",), ["2026-11-01T00:00:00Z", f"urn:uuid:{ACCOUNT}", "usd"]),
    ],
)
def test_a_cursor_spelt_otherwise_is_read_as_python_reads_it(
    group_by: tuple[str, ...], values: list[str]
) -> None:
    content = json.dumps(["hour", group_by, values]).encode()
    cursor = base64.urlsafe_b64encode(content).decode()
    assert not read_report(query(group_by=group_by, cursor=cursor)).rows


def test_a_cursor_of_another_report_is_refused(new_usage: NewUsage) -> None:
    record_many([new_usage(customer_id=ACCOUNT) for _ in range(3)], stored_at=START)
    grouped = query(group_by=("attachment",), limit=1)
    cursor = read_report(grouped).next_cursor
    for other in (query(group_by=("key",)), query(), replace(grouped, granularity="day")):
        with pytest.raises(InvalidCursor, match="another bucket_width or group_by"):
            read_report(replace(other, cursor=cursor))


@pytest.mark.parametrize(
    ("granularity", "floor", "ceiling"),
    [
        ("hour", datetime(2026, 11, 2, 10, tzinfo=UTC), datetime(2026, 11, 2, 11, tzinfo=UTC)),
        ("day", datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)),
    ],
)
def test_buckets_begin_and_end_in_utc(
    granularity: Granularity, floor: datetime, ceiling: datetime
) -> None:
    at = datetime.fromisoformat("2026-11-02T12:34:56+02:00")
    assert floor_to_bucket(at, granularity) == floor
    assert ceil_to_bucket(at, granularity) == ceiling
    assert ceil_to_bucket(ceiling, granularity) == ceiling
