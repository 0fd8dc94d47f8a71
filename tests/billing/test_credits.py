"""Credits and credit notes: never more than there is, and never changed."""

import threading
import uuid
from datetime import UTC, datetime
from functools import partial

import pytest
from django.db import DatabaseError, connections, transaction

from billing.credits import (
    CreditNoteTooLarge,
    CustomerNotFound,
    InvalidCredit,
    InvoiceNotFinal,
    available_credits,
    creditable_microunits,
    grant_credit,
    issue_credit_note,
)
from billing.models import Credit, CreditNote, Customer, Invoice
from billing.plans import sync_plans

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 1, 1, tzinfo=UTC)


@pytest.fixture
def customer() -> Customer:
    sync_plans()
    return Customer.objects.create(id=uuid.uuid4())


@pytest.fixture
def invoice(customer: Customer) -> Invoice:
    """A final one of a dollar."""
    return Invoice.objects.create(
        customer=customer,
        number=7,
        state="final",
        currency="usd",
        period_start=datetime(2026, 10, 1, tzinfo=UTC),
        period_end=datetime(2026, 11, 1, tzinfo=UTC),
        charges_microunits=1_000_000,
        total_microunits=1_000_000,
        created_at=NOW,
        updated_at=NOW,
        finalized_at=NOW,
    )


def test_a_credit_is_available_until_it_is_used(customer: Customer) -> None:
    grant_credit(customer.id, 5, "An apology", NOW)
    (credit,) = available_credits(customer.id)
    assert (credit.left_microunits, credit.reason) == (5, "An apology")
    assert [credit.take(3), credit.take(3), credit.take(3)] == [3, 2, 0]


@pytest.mark.parametrize(
    ("amount", "reason", "problem"),
    [
        (0, "x", "the amount must be 1 to"),
        (-1, "x", "the amount must be 1 to"),
        (10**15 + 1, "x", "the amount must be 1 to"),
        (1, " ", "the reason must have 1 to 500 characters"),
        (1, "x" * 501, "the reason must have 1 to 500 characters"),
    ],
)
def test_what_cannot_be_credited_is_told(
    customer: Customer, invoice: Invoice, amount: int, reason: str, problem: str
) -> None:
    with pytest.raises(InvalidCredit, match=problem):
        grant_credit(customer.id, amount, reason, NOW)
    with pytest.raises(InvalidCredit, match=problem):
        issue_credit_note(invoice, amount, reason, NOW)
    assert not Credit.objects.exists()


def test_a_credit_is_somebodys() -> None:
    with pytest.raises(CustomerNotFound):
        grant_credit(uuid.uuid4(), 1, "x", NOW)


def test_a_credit_note_becomes_a_credit(customer: Customer, invoice: Invoice) -> None:
    note = issue_credit_note(invoice, 400_000, "Slow in the first week", NOW)
    (credit,) = available_credits(customer.id)
    assert (note.number, credit.left_microunits) == (1, 400_000)
    assert credit.reason == "Credit note 1 for invoice 7"
    assert creditable_microunits(invoice) == 600_000


def test_credit_notes_never_take_back_more_than_was_invoiced(invoice: Invoice) -> None:
    issue_credit_note(invoice, 400_000, "x", NOW)
    with pytest.raises(CreditNoteTooLarge, match=r"600000 micro-units are left .* invoice 7"):
        issue_credit_note(invoice, 600_001, "x", NOW)
    assert issue_credit_note(invoice, 600_000, "x", NOW).number == 2
    with pytest.raises(CreditNoteTooLarge):
        issue_credit_note(invoice, 1, "x", NOW)


@pytest.mark.django_db(transaction=True)
def test_parallel_credit_notes_never_take_back_more_either(invoice: Invoice) -> None:
    refused: list[CreditNoteTooLarge] = []

    def run() -> None:
        try:
            issue_credit_note(invoice, 300_000, "x", NOW)
        except CreditNoteTooLarge as error:
            refused.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert sorted(CreditNote.objects.values_list("number", flat=True)) == [1, 2, 3]


def test_a_draft_has_no_credit_notes(customer: Customer, invoice: Invoice) -> None:
    draft = Invoice(customer=customer, state="draft", total_microunits=5)
    with pytest.raises(InvoiceNotFinal):
        issue_credit_note(draft, 1, "x", NOW)


def test_credits_and_notes_are_never_changed(customer: Customer, invoice: Invoice) -> None:
    issue_credit_note(invoice, 1, "x", NOW)
    for table in (Credit, CreditNote):
        rows = table._default_manager.all()
        for change in (
            partial(rows._raw_delete, rows.db),
            partial(rows.update, amount_microunits=2),
        ):
            with pytest.raises(DatabaseError, match="only ever added to"), transaction.atomic():
                change()
