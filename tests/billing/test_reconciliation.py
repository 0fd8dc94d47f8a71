"""Reconciliation: no drift while everything works, and an alarm for each kind of drift."""

import asyncio
import dataclasses
import logging
import uuid
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from billing.bulk import record_many
from billing.corrections import correct
from billing.metering import Usage
from billing.models import Customer, Invoice, InvoiceLine, Reconciliation, UsageSum
from billing.periods import Period, month_of
from billing.prices import BEFORE_PRICES
from billing.rate_limits import Limiter, Limits, Share
from billing.reconciliation import (
    KEPT,
    find_drift,
    forget_spend,
    reconcile_invoices,
    reconcile_limiter,
    reconcile_sums,
)
from billing.spend import LedgerSpend, Spend, spend_in_ledger
from inference.database import run_in_database_thread
from tests.billing.conftest import NewUsage

NOW = datetime.now(UTC)
LIMITS = Limits(requests=100, tokens=10**6)
Result = TypeVar("Result")
transactional = pytest.mark.django_db(transaction=True)


async def read_ledger(
    customer_id: uuid.UUID, period: Period, asked: Collection[uuid.UUID]
) -> LedgerSpend:
    return await run_in_database_thread(spend_in_ledger, customer_id, period, asked)


def with_limiter(use: Callable[[Limiter], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        limiter = Limiter(AsyncRedis.from_url(settings.REDIS_URL), read_ledger=read_ledger)
        try:
            return await use(limiter)
        finally:
            await limiter.close()

    return asyncio.run(run())


def share_of(usage: Usage) -> Share:
    return Share(
        id=usage.id,
        customer_id=usage.customer_id,
        attachment_id=usage.attachment_id,
        model_id=usage.model_id,
        app_name=usage.app_name,
        tokens=usage.tokens,
        cost_picounits=usage.cost_picounits,
        lease_s=60,
    )


def answer(usage: Usage) -> None:
    """As a request does: reserved, recorded, settled."""

    async def reserve(limiter: Limiter) -> None:
        await limiter.reserve(share_of(usage), LIMITS)

    async def settle(limiter: Limiter) -> None:
        limiter.settle(share_of(usage))

    with_limiter(reserve)
    record_many([usage])
    with_limiter(settle)


def reserve_only(usage: Usage) -> None:
    async def reserve(limiter: Limiter) -> None:
        await limiter.reserve(share_of(usage), LIMITS)

    with_limiter(reserve)


def read_spend(customer_id: uuid.UUID) -> Spend | None:
    return with_limiter(lambda limiter: limiter.read_spend(customer_id))


def reconcile() -> Reconciliation:
    return reconcile_limiter(settings.REDIS_URL, datetime.now(UTC))


@transactional
def test_what_was_answered_and_what_is_held_is_no_drift(new_usage: NewUsage) -> None:
    first = new_usage()
    answer(first)
    answer(dataclasses.replace(first, id=new_usage().id, app_name="other"))
    reserve_only(dataclasses.replace(first, id=new_usage().id))
    found = reconcile()
    assert (found.compared, found.drift_picounits, found.details) == (1, 0, [])
    assert read_spend(first.customer_id) is not None


@transactional
@pytest.mark.parametrize("wrong_by", [-5, 7])
def test_a_counter_that_is_wrong_is_an_alarm_and_read_again(
    new_usage: NewUsage,
    redis_client: Redis,
    caplog: pytest.LogCaptureFixture,
    wrong_by: int,
) -> None:
    usage = new_usage()
    answer(usage)
    (key,) = redis_client.keys("*spend*")
    redis_client.hincrby(key, "account", wrong_by)
    with caplog.at_level(logging.ERROR):
        found = reconcile()
    assert found.drift_picounits == abs(wrong_by)
    (detail,) = found.details
    assert (detail["customer_id"], detail["scope"]) == (str(usage.customer_id), "account")
    assert "limiter and ledger differ by" in caplog.text
    assert read_spend(usage.customer_id) is None
    answer(dataclasses.replace(usage, id=new_usage().id))
    spend = read_spend(usage.customer_id)
    assert spend is not None
    assert spend.picounits["account"] == 2 * usage.cost_picounits
    assert reconcile().drift_picounits == 0


@transactional
def test_a_row_that_the_limiter_never_saw_is_an_alarm(new_usage: NewUsage) -> None:
    usage = new_usage()
    answer(usage)
    record_many([dataclasses.replace(usage, id=new_usage().id)])
    assert reconcile().drift_picounits == 3 * usage.cost_picounits


@transactional
def test_a_correction_is_no_drift_once_spend_is_forgotten(new_usage: NewUsage) -> None:
    usage = new_usage(price_id=BEFORE_PRICES)
    answer(usage)
    correction = correct(
        usage.id, id=new_usage().id, inputs=0, text_tokens=0, reason="unwanted", now=NOW
    )
    assert correction is not None
    assert correction.cost_picounits == -usage.cost_picounits
    forget_spend(settings.REDIS_URL, [usage.customer_id])
    assert reconcile().drift_picounits == 0
    answer(dataclasses.replace(usage, id=new_usage().id))
    assert reconcile().drift_picounits == 0


STEPS = st.lists(st.sampled_from(["reserve", "store", "settle", "give back"]), max_size=30)


@given(before=STEPS, between=STEPS, after=STEPS, costs=st.data())
def test_readings_at_different_moments_are_no_drift(
    before: list[str], between: list[str], after: list[str], costs: st.DataObject
) -> None:
    """Whatever requests do between the reading of limiter, ledger and limiter."""
    held: dict[int, int] = {}
    stored: dict[int, int] = {}
    spend, ledger, drawn = 0, 0, 0

    def run(steps: list[str]) -> Spend:
        nonlocal spend, ledger, drawn
        for step in steps:
            if step == "reserve":
                drawn += 1
                held[drawn] = costs.draw(st.integers(1, 1_000))
                spend += held[drawn]
            elif step == "store" and (waiting := held.keys() - stored.keys()):
                id_ = min(waiting)
                stored[id_] = held[id_]
                ledger += held[id_]
            elif step == "settle" and (settled := held.keys() & stored.keys()):
                del held[min(settled)]
            elif step == "give back" and (waiting := held.keys() - stored.keys()):
                spend -= held.pop(max(waiting))
        scopes = {"account": spend}
        return Spend(until=NOW, picounits=scopes, held={"account": sum(held.values())})

    first = run(before)
    run(between)
    read = {"account": ledger}
    last = run(after)
    assert find_drift(first, read, last) == {}


@pytest.mark.django_db
def test_sums_that_are_wrong_are_an_alarm(
    new_usage: NewUsage, caplog: pytest.LogCaptureFixture
) -> None:
    record_many([new_usage()])
    assert reconcile_sums(datetime.now(UTC), days=2).drift_picounits == 0
    UsageSum.objects.filter(granularity="hour").update(cost_picounits=1_700_003)
    UsageSum.objects.filter(granularity="day").update(text_tokens=16)
    found = reconcile_sums(datetime.now(UTC), days=2)
    assert found.drift_picounits == 3 + 1
    assert len(found.details) == 2
    assert "rows and sums differ by 4 picounits in 2 places" in caplog.text


LAST_MONTH = month_of(NOW).previous
CLOSED = LAST_MONTH.end_at + timedelta(days=4)


def invoice(usage: Usage, **line: Any) -> None:
    customer = Customer.objects.create(id=usage.customer_id)
    made = Invoice.objects.create(
        customer=customer,
        currency="usd",
        period_start=LAST_MONTH.start_at,
        period_end=LAST_MONTH.end_at,
        created_at=CLOSED,
        updated_at=CLOSED,
    )
    values = {
        "position": 1,
        "kind": InvoiceLine.Kind.TEXT_TOKENS,
        "description": "tokens",
        "resource_id": usage.resource_id,
        "price_id": usage.price_id,
        "model_id": usage.model_id,
        "quantity": usage.text_tokens,
        "unit": "token",
        "unit_price_microunits": 100_000,
        "amount_microunits": 2,
        "start_at": LAST_MONTH.start_at,
        "end_at": LAST_MONTH.end_at,
    }
    InvoiceLine.objects.create(invoice=made, **values | line)
    Invoice.objects.filter(id=made.id).update(state="final", number=1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("line", "drift"),
    [
        ({}, 0),
        ({"quantity": 18}, 100_000),
        ({"unit_price_microunits": 100_001}, 17),
        ({"model_id": "another"}, 2 * 1_700_000),
        ({"kind": "flat"}, 1_700_000),
    ],
)
def test_an_invoice_says_what_the_ledger_says_or_it_is_an_alarm(
    new_usage: NewUsage, line: dict[str, Any], drift: int
) -> None:
    usage = new_usage()
    record_many([usage], stored_at=LAST_MONTH.start_at + timedelta(days=3))
    invoice(usage, **line)
    found = reconcile_invoices(CLOSED)
    assert (found.compared, found.drift_picounits) == (1, drift)
    assert bool(found.details) == bool(drift)


@pytest.mark.django_db
def test_usage_that_no_invoice_has_is_an_alarm_some_days_later(new_usage: NewUsage) -> None:
    usage = new_usage()
    Customer.objects.create(id=usage.customer_id)
    record_many([usage], stored_at=LAST_MONTH.start_at + timedelta(days=3))
    assert reconcile_invoices(LAST_MONTH.end_at + timedelta(hours=1)).drift_picounits == 0
    assert reconcile_invoices(CLOSED).drift_picounits == usage.cost_picounits


@pytest.mark.django_db
@pytest.mark.parametrize("month", [LAST_MONTH, month_of(NOW)])
def test_usage_that_nobody_will_be_invoiced_for_is_an_alarm_at_once(
    new_usage: NewUsage, month: Period
) -> None:
    usage = new_usage()
    record_many([usage], stored_at=month.start_at)
    found = reconcile_invoices(NOW)
    assert found.drift_picounits == usage.cost_picounits
    assert found.details[0]["customer_id"] == str(usage.customer_id)
    Customer.objects.create(id=usage.customer_id)
    assert reconcile_invoices(month.end_at + timedelta(hours=1)).drift_picounits == 0


@pytest.mark.django_db
def test_clean_comparisons_are_forgotten_and_alarms_are_kept(new_usage: NewUsage) -> None:
    usage = new_usage()
    Customer.objects.create(id=usage.customer_id)
    record_many([usage], stored_at=LAST_MONTH.start_at + timedelta(days=3))
    reconcile_invoices(LAST_MONTH.end_at)
    reconcile_invoices(CLOSED)
    reconcile_invoices(CLOSED + KEPT + timedelta(days=1))
    assert sorted(Reconciliation.objects.values_list("drift_picounits", flat=True)) == [
        1_700_000,
        1_700_000,
    ]
