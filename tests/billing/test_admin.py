"""The admin pages of money: to be searched and read, never edited; credits are added by a form."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from billing.bulk import record_many
from billing.invoices import SETTLE_GAP, close
from billing.models import (
    Credit,
    CreditNote,
    Customer,
    Invoice,
    Plan,
    Price,
    Subscription,
    UsageEvent,
)
from billing.periods import month_of
from billing.plans import sync_plans
from billing.subscriptions import subscribe
from tests.billing.conftest import NewUsage

pytestmark = pytest.mark.django_db

# Nothing of them is money: what Stripe calls a customer, and which options a plan takes.
HAVE_A_FORM = Customer | Plan
OCTOBER = month_of(datetime(2026, 10, 1, tzinfo=UTC))


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator"))
    return client


@pytest.fixture
def rows(new_usage: NewUsage) -> dict[str, Model]:
    """A row of each table, by a word that finds it."""
    plan = sync_plans()[0]
    price = Price.objects.get(plan=plan)
    usage = new_usage(price_id=price.id, text_tokens=10**8, cost_picounits=10**12)
    subscribe(
        resource_id=usage.resource_id,
        customer_id=usage.customer_id,
        email="a@example.com",
        name="",
        resource_name="shop-db",
        plan=plan,
        now=OCTOBER.start_at,
    )
    subscription = Subscription.objects.get()
    record_many([usage], stored_at=OCTOBER.start_at)
    invoice = close(usage.customer_id, OCTOBER, OCTOBER.end_at + SETTLE_GAP)
    return {
        "standard": plan,
        "heroku-inference": price,
        "shop": UsageEvent.objects.get(),
        "a@example": Customer.objects.get(),
        "shop-db": subscription,
        "1": invoice,
    }


def url_of(row: Model | type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=args)


def test_rows_are_found_and_shown_but_those_of_money_have_no_form(
    operator: Client, rows: dict[str, Model]
) -> None:
    for words, row in rows.items():
        shown = url_of(row, "change", row.pk)
        listed = operator.get(url_of(row, "changelist"), {"q": words}).content.decode()
        assert shown in listed
        missed = operator.get(url_of(row, "changelist"), {"q": "nothing like it"})
        assert shown not in missed.content.decode()
        page = operator.get(shown)
        assert page.status_code == 200
        assert ('name="_save"' in page.content.decode()) == isinstance(row, HAVE_A_FORM)


def test_an_invoice_is_shown_with_its_lines(operator: Client, rows: dict[str, Model]) -> None:
    invoice = rows["1"]
    page = operator.get(url_of(invoice, "change", invoice.pk)).content.decode()
    assert "all-minilm-l6-v2: tokens of texts" in page
    assert "1000000" in page


@pytest.mark.parametrize("action", ["add", "change", "delete"])
def test_rows_cannot_be_added_changed_or_deleted(
    operator: Client, rows: dict[str, Model], action: str
) -> None:
    for row in rows.values():
        url = url_of(row, action, *([] if action == "add" else [row.pk]))
        if not (action == "change" and isinstance(row, HAVE_A_FORM)):
            assert operator.post(url, {"tokens": 1, "version": 1}).status_code == 403


def test_of_a_customer_only_what_stripe_calls_it_can_be_changed(
    operator: Client, rows: dict[str, Model]
) -> None:
    customer = rows["a@example"]
    given = {"stripe_customer_id": "cus_1", "email": "b@example.com", "name": "B"}
    assert operator.post(url_of(customer, "change", customer.pk), given).status_code == 302
    found = Customer.objects.get()
    assert (found.stripe_customer_id, found.email, found.name) == ("cus_1", "a@example.com", "")


def test_a_credit_is_granted_by_its_form(operator: Client, rows: dict[str, Model]) -> None:
    customer = rows["a@example"]
    given = {"customer": customer.pk, "amount_microunits": 5_000, "reason": "An apology"}
    refused = operator.post(url_of(Credit, "add"), {**given, "amount_microunits": 0})
    assert "the amount must be 1 to" in refused.content.decode()
    assert operator.post(url_of(Credit, "add"), given).status_code == 302
    credit = Credit.objects.get()
    assert (credit.amount_microunits, credit.currency) == (5_000, "usd")
    for action in ("change", "delete"):
        assert operator.post(url_of(credit, action, credit.pk), given).status_code == 403


def test_a_credit_note_is_issued_by_its_form(operator: Client, rows: dict[str, Model]) -> None:
    invoice = rows["1"]
    given = {"invoice": invoice.pk, "amount_microunits": 400_000, "reason": "Slow"}
    refused = operator.post(url_of(CreditNote, "add"), {**given, "amount_microunits": 1_000_001})
    assert "1000000 micro-units are left" in refused.content.decode()
    assert operator.post(url_of(CreditNote, "add"), given).status_code == 302
    note = CreditNote.objects.get()
    assert (note.number, note.amount_microunits) == (1, 400_000)
    assert Credit.objects.get().credit_note_id == note.pk
    for action in ("change", "delete"):
        assert operator.post(url_of(note, action, note.pk), given).status_code == 403


def test_a_credit_note_that_another_has_just_made_too_large_is_said_to_be(
    operator: Client, rows: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    def come_before_the_other(*args: object) -> None:
        """As the form's check is when two are sent at once."""

    given = {"invoice": rows["1"].pk, "amount_microunits": 600_000, "reason": "Slow"}
    assert operator.post(url_of(CreditNote, "add"), given).status_code == 302
    monkeypatch.setattr("billing.admin.check_credit_note", come_before_the_other)
    refused = operator.post(url_of(CreditNote, "add"), given, follow=True)
    assert refused.redirect_chain == [(url_of(CreditNote, "add"), 302)]
    assert "400000 micro-units are left" in refused.content.decode()
    assert CreditNote.objects.count() == 1
    assert LogEntry.objects.count() == 1


def test_whoever_may_not_add_credits_cannot(client: Client, rows: dict[str, Model]) -> None:
    client.force_login(User.objects.create_user("reader", is_staff=True))
    for table in (Credit, CreditNote, Invoice, Subscription):
        assert client.post(url_of(table, "add"), {}).status_code == 403
