"""Invoices: closed once whoever closes them and how often, and never changed after that."""

import dataclasses
import hashlib
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from pytest_django import DjangoAssertNumQueries
from uuid_utils.compat import uuid7

from billing import invoices
from billing.bulk import record_many
from billing.credits import grant_credit
from billing.invoices import (
    SETTLE_GAP,
    LedgerDisagrees,
    NothingToInvoice,
    PeriodNotOver,
    close,
    close_customer,
    close_due,
    expand,
    find_invoice,
    list_invoices,
    refresh_draft,
)
from billing.metering import Usage
from billing.models import Credit, Invoice, InvoiceLine, Plan, UsageSum
from billing.periods import month_of
from billing.plans import sync_plans
from billing.prices import prices_of
from billing.subscriptions import end_subscription, subscribe
from billing.tasks import close_invoices
from tests.billing.conftest import NewUsage

pytestmark = pytest.mark.django_db

OCTOBER = month_of(datetime(2026, 10, 1, tzinfo=UTC))
NOVEMBER = month_of(OCTOBER.end_at)
AFTER = OCTOBER.end_at + SETTLE_GAP
CUSTOMER, RESOURCE = uuid.uuid4(), uuid.uuid4()

Use = Callable[..., Usage]


@pytest.fixture
def plan() -> Plan:
    plan = sync_plans()[0]
    subscribe(
        resource_id=RESOURCE,
        customer_id=CUSTOMER,
        email="a@example.com",
        name="",
        resource_name="shop-db",
        plan=plan,
        now=OCTOBER.start_at,
    )
    return plan


@pytest.fixture
def use(plan: Plan, new_usage: NewUsage) -> Use:
    """Record usage of all-minilm-l6-v2, at $0.01 per million tokens, by default in October."""
    (price,) = prices_of(plan)

    def use(tokens: int = 1_000_000, at: datetime = OCTOBER.start_at, **changes: Any) -> Usage:
        usage = new_usage(
            **{"customer_id": CUSTOMER, "resource_id": RESOURCE, "text_tokens": tokens, **changes},
            price_id=price.id,
            cost_picounits=tokens * 10_000,
        )
        record_many([usage], stored_at=at)
        return usage

    return use


def contents(invoice: Invoice) -> list[tuple[Any, ...]]:
    return [
        *Invoice.objects.filter(id=invoice.id).values_list(),
        *invoice.lines.order_by("position").values_list(),
    ]


def in_parallel(run: Callable[[], object], count: int = 4) -> list[object]:
    """What each of the threads got, or raised."""
    results: list[object] = []

    def collect() -> None:
        try:
            results.append(run())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=collect) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_draft_follows_the_ledger(use: Use) -> None:
    use(3_000_000)
    (draft,) = refresh_draft(CUSTOMER, OCTOBER.end_at - timedelta(days=1))
    assert (draft.state, draft.number, draft.total_microunits) == ("draft", None, 30_000)
    use(1_000_000)
    (again,) = refresh_draft(CUSTOMER, OCTOBER.end_at - timedelta(hours=1))
    assert (again.id, again.total_microunits) == (draft.id, 40_000)
    assert [line.quantity for line in again.lines.all()] == [4_000_000]


def test_a_final_invoice_has_a_number_and_is_found_by_it(use: Use) -> None:
    use(3_000_000)
    invoice = close(CUSTOMER, OCTOBER, AFTER)
    assert (invoice.state, invoice.number, invoice.finalized_at) == ("final", 1, AFTER)
    assert invoice.total_microunits == invoice.charges_microunits == 30_000
    assert find_invoice(CUSTOMER, "1") == find_invoice(CUSTOMER, str(invoice.id)) == invoice
    assert find_invoice(uuid.uuid4(), "1") is None
    assert find_invoice(CUSTOMER, "nonsense") is None
    assert [one.id for one in list_invoices(CUSTOMER, AFTER)][-1] == invoice.id


def test_closing_twice_makes_one_invoice(use: Use) -> None:
    use()
    first = close(CUSTOMER, OCTOBER, AFTER)
    before = contents(first)
    assert close(CUSTOMER, OCTOBER, AFTER + timedelta(days=3)) == first
    assert contents(first) == before
    assert Invoice.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_closing_in_parallel_makes_one_invoice(use: Use) -> None:
    use()
    results = in_parallel(lambda: close(CUSTOMER, OCTOBER, AFTER).number, 6)
    assert results == [1] * 6
    assert Invoice.objects.count() == 1
    assert InvoiceLine.objects.count() == 1


@pytest.mark.parametrize("early", [timedelta(microseconds=1), SETTLE_GAP, timedelta(days=20)])
def test_a_period_is_not_closed_before_it_is_settled(use: Use, early: timedelta) -> None:
    use()
    with pytest.raises(PeriodNotOver, match="2026-10 can be closed from 2026-11-01T00:10:00"):
        close(CUSTOMER, OCTOBER, AFTER - early)
    assert not Invoice.objects.filter(state="final").exists()


def test_what_is_stored_in_the_next_month_is_on_the_next_invoice(use: Use) -> None:
    use(1_000_000, OCTOBER.end_at - timedelta(microseconds=1))
    use(2_000_000, OCTOBER.end_at)
    assert close(CUSTOMER, OCTOBER, AFTER).total_microunits == 10_000
    assert close(CUSTOMER, NOVEMBER, NOVEMBER.end_at + SETTLE_GAP).total_microunits == 20_000


def test_a_customer_without_anything_has_no_invoice(use: Use) -> None:
    with pytest.raises(NothingToInvoice):
        close(uuid.uuid4(), OCTOBER, AFTER)
    assert not Invoice.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_numbers_have_no_gaps_when_many_are_closed_and_some_fail(
    plan: Plan, new_usage: NewUsage
) -> None:
    customers = [uuid.uuid4() for _ in range(8)]
    (price,) = prices_of(plan)
    for index, customer_id in enumerate(customers):
        resource_id = uuid.uuid4()
        subscribe(
            resource_id=resource_id,
            customer_id=customer_id,
            email="",
            name="",
            resource_name="",
            plan=plan,
            now=OCTOBER.start_at,
        )
        unknown = 999_999 if index % 4 == 0 else price.id
        usage = new_usage(customer_id=customer_id, resource_id=resource_id, price_id=unknown)
        record_many([usage], stored_at=OCTOBER.start_at)
    in_parallel(lambda: close_due(AFTER))
    numbers = Invoice.objects.filter(state="final").values_list("number", flat=True)
    assert sorted(number or 0 for number in numbers) == list(range(1, 8))


def test_a_customer_that_fails_does_not_stop_the_others(use: Use, new_usage: NewUsage) -> None:
    use()
    failing = uuid.UUID(int=0)
    subscribe(
        resource_id=uuid.uuid4(),
        customer_id=failing,
        email="",
        name="",
        resource_name="",
        plan=sync_plans()[0],
        now=OCTOBER.start_at,
    )
    record_many([new_usage(customer_id=failing, price_id=999_999)], stored_at=OCTOBER.start_at)
    closed, failures = close_due(AFTER)
    assert closed == 1
    assert list(failures) == [failing]
    assert "price 999999" in str(failures[failing])


def test_months_that_were_missed_are_closed_in_turn(use: Use) -> None:
    use()
    assert close_due(NOVEMBER.end_at + SETTLE_GAP) == (2, {})
    numbers = Invoice.objects.order_by("period_start").values_list("number", flat=True)
    assert list(numbers) == [1, 2]


def test_a_line_expands_to_its_rows_and_says_their_digest(use: Use) -> None:
    used = [use(tokens) for tokens in (5, 7, 11)]
    use(13, OCTOBER.end_at)
    invoice = close(CUSTOMER, OCTOBER, AFTER)
    (line,) = invoice.lines.all()
    assert [row.id for row in expand(line)] == sorted(usage.id for usage in used)
    rows = sorted(used, key=lambda usage: str(usage.id))
    text = "".join(f"{row.id},{row.text_tokens},0,{row.cost_picounits}\n" for row in rows)
    assert line.events_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (line.quantity, line.events_count) == (23, 3)


def test_sums_that_are_not_those_of_the_rows_are_not_invoiced(use: Use) -> None:
    use(1_000_000)
    UsageSum.objects.update(text_tokens=999_999)
    with pytest.raises(LedgerDisagrees, match="the sums say 999999, the rows 1000000"):
        close(CUSTOMER, OCTOBER, AFTER)
    assert not Invoice.objects.filter(state="final").exists()


def test_a_final_invoice_is_never_changed(use: Use) -> None:
    use()
    invoice = close(CUSTOMER, OCTOBER, AFTER)
    line = invoice.lines.get()
    for change in (
        lambda: Invoice.objects.update(total_microunits=0),
        lambda: Invoice.objects.all().delete(),
        lambda: InvoiceLine.objects.update(quantity=0),
        lambda: InvoiceLine.objects.all().delete(),
        lambda: InvoiceLine.objects.create(
            invoice=invoice,
            position=9,
            kind="flat",
            quantity=0,
            amount_microunits=0,
            start_at=line.start_at,
            end_at=line.end_at,
        ),
    ):
        with pytest.raises(DatabaseError, match="final invoice is never"), transaction.atomic():
            change()


@pytest.mark.parametrize(
    "table", ["invoice", "invoiceline", "credit", "credituse", "creditnote", "price"]
)
def test_money_is_not_truncated(table: str) -> None:
    forbidden = f"SET LOCAL annex.may_truncate = off; TRUNCATE billing_{table} CASCADE"
    with transaction.atomic(), connection.cursor() as cursor:
        with pytest.raises(DatabaseError, match="only ever added to"):
            cursor.execute(forbidden)
        transaction.set_rollback(True)


def test_a_customer_of_long_ago_is_not_asked_for_month_by_month(
    plan: Plan, use: Use, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    use(1_000_000, OCTOBER.end_at)
    end_subscription(RESOURCE, OCTOBER.end_at)
    later = NOVEMBER.end_at + timedelta(days=3650)
    assert [invoice.period_start for invoice in close_customer(CUSTOMER, later)] == [
        OCTOBER.start_at,
        NOVEMBER.start_at,
    ]
    with django_assert_max_num_queries(5):
        assert close_customer(CUSTOMER, later) == []


def test_a_line_of_a_draft_does_not_move_to_a_final_invoice(use: Use) -> None:
    use()
    use(1_000_000, OCTOBER.end_at)
    final = close(CUSTOMER, OCTOBER, AFTER)
    (draft,) = refresh_draft(CUSTOMER, NOVEMBER.end_at - timedelta(days=1))
    with pytest.raises(DatabaseError, match="final invoice is never"), transaction.atomic():
        draft.lines.update(invoice=final, position=99)


def test_a_credit_is_used_up_by_one_invoice_after_the_other(use: Use) -> None:
    use(1_000_000)
    use(1_000_000, OCTOBER.end_at)
    grant_credit(CUSTOMER, 4_000, "An apology", OCTOBER.start_at)
    grant_credit(CUSTOMER, 9_000, "Another", OCTOBER.start_at + timedelta(seconds=1))
    drafts = refresh_draft(CUSTOMER, NOVEMBER.end_at - timedelta(days=1))
    october = close(CUSTOMER, OCTOBER, AFTER)
    november = close(CUSTOMER, NOVEMBER, NOVEMBER.end_at + SETTLE_GAP)
    assert [draft.total_microunits for draft in drafts] == [0, 7_000]
    assert (october.credits_microunits, october.total_microunits) == (10_000, 0)
    assert (november.credits_microunits, november.total_microunits) == (3_000, 7_000)
    lines = october.lines.filter(kind="credit").order_by("position")
    assert [(line.description, line.amount_microunits) for line in lines] == [
        ("An apology", -4_000),
        ("Another", -6_000),
    ]


def test_less_than_nothing_is_carried_over_as_a_credit(use: Use) -> None:
    usage = use(3_000_000)
    close(CUSTOMER, OCTOBER, AFTER)
    correction = dataclasses.replace(
        usage,
        id=uuid7(),
        corrects=usage.id,
        outcome="correction",
        reason="counted twice",
        inputs=0,
        text_tokens=-1_000_000,
        cost_picounits=-(10**10),
    )
    record_many([correction], stored_at=NOVEMBER.start_at)
    november = close(CUSTOMER, NOVEMBER, NOVEMBER.end_at + SETTLE_GAP)
    assert (november.charges_microunits, november.total_microunits) == (-10_000, 0)
    assert november.credits_microunits == -10_000
    credit = Credit.objects.get()
    assert (credit.amount_microunits, credit.reason) == (10_000, "Carried over from invoice 2")
    assert sum(line.amount_microunits for line in november.lines.all()) == 0


def test_what_is_no_longer_subscribed_is_no_longer_invoiced(use: Use) -> None:
    end_subscription(RESOURCE, OCTOBER.end_at)
    close(CUSTOMER, OCTOBER, AFTER)
    assert close_due(NOVEMBER.end_at + SETTLE_GAP) == (0, {})


def test_rows_from_before_there_were_prices_cost_nothing(plan: Plan, new_usage: NewUsage) -> None:
    usage = new_usage(customer_id=CUSTOMER, resource_id=RESOURCE, price_id=0, cost_picounits=0)
    record_many([usage], stored_at=OCTOBER.start_at)
    invoice = close(CUSTOMER, OCTOBER, AFTER)
    assert (invoice.total_microunits, invoice.lines.count()) == (0, 0)


def test_the_clock_is_that_of_postgresql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (before,) = cursor.fetchone()
    assert before <= invoices.read_clock() <= before + timedelta(minutes=1)


def test_the_task_closes_what_is_over_by_that_clock(plan: Plan) -> None:
    before_last = month_of(invoices.read_clock()).previous.previous
    subscribe(
        resource_id=uuid.uuid4(),
        customer_id=uuid.uuid4(),
        email="",
        name="",
        resource_name="",
        plan=plan,
        now=before_last.start_at,
    )
    close_invoices()
    close_invoices()
    assert Invoice.objects.filter(state="final", period_start=before_last.start_at).count() >= 1
    numbers = Invoice.objects.filter(state="final").order_by("number")
    assert list(numbers.values_list("number", flat=True)) == list(range(1, len(numbers) + 1))
