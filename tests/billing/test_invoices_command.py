"""`manage.py invoices`: what an operator reads and does, and how mistakes are told."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from billing.bulk import record_many
from billing.management.commands import invoices as command
from billing.metering import Usage
from billing.models import Invoice, Price
from billing.periods import month_of
from billing.plans import sync_plans
from billing.subscriptions import subscribe
from tests.billing.conftest import NewUsage

pytestmark = pytest.mark.django_db

OCTOBER = month_of(datetime(2026, 10, 1, tzinfo=UTC))
NOW = OCTOBER.end_at + timedelta(hours=1)

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(command, "read_clock", lambda: NOW)

    def run(*words: str) -> str:
        out = StringIO()
        call_command("invoices", *words, stdout=out, stderr=out)
        return out.getvalue()

    return run


@pytest.fixture
def usage(new_usage: NewUsage) -> Usage:
    """A hundred million tokens, a dollar, in October."""
    plan = sync_plans()[0]
    price_id = Price.objects.get(plan=plan).id
    usage = new_usage(price_id=price_id, text_tokens=10**8, cost_picounits=10**12)
    subscribe(
        resource_id=usage.resource_id,
        customer_id=usage.customer_id,
        email="a@example.com",
        name="",
        resource_name="shop-db",
        plan=plan,
        now=OCTOBER.start_at,
    )
    record_many([usage], stored_at=OCTOBER.start_at)
    return usage


def test_what_is_over_is_closed_once(run: Run, usage: Usage) -> None:
    said = run("close")
    assert "1  2026-10  1.000000 usd  a@example.com" in said
    assert "1 closed, 0 failed" in said
    assert "0 closed, 0 failed" in run("close")


def test_a_month_that_is_not_over_is_not_closed(run: Run, usage: Usage) -> None:
    with pytest.raises(CommandError, match="1 customers could not be invoiced"):
        run("close", "--period", "2026-11", "--customer", "a@example.com")
    assert not Invoice.objects.filter(state="final").exists()


def test_invoices_are_listed_and_shown_with_their_requests(run: Run, usage: Usage) -> None:
    run("close", "--customer", str(usage.customer_id), "--period", "2026-10")
    listed = run("list", "a@example.com").splitlines()
    assert [line.split()[:2] for line in listed] == [["draft", "2026-11"], ["1", "2026-10"]]
    shown = run("show", "1", "--rows")
    assert "100,000,000 tokens  all-minilm-l6-v2: tokens of texts  shop-db" in shown
    assert f"{usage.id}  2026-10-01T00:00:00  100,000,000" in shown
    assert "draft  2026-11" in run("show", listed[0].split()[-1])


def test_credits_and_credit_notes_are_told(run: Run, usage: Usage) -> None:
    run("close")
    assert run("credit", "a@example.com", "2.5", "An apology") == "2.500000 usd for a@example.com\n"
    assert run("credit-note", "1", "0.4", "Slow") == (
        "credit note 1: 0.400000 usd of invoice 1; 0.600000 are left of it\n"
    )


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["list", "nobody@example.com"], "0 customers are 'nobody@example.com'"),
        (["show", "77"], "there is no invoice 77"),
        (["show", "x"], "there is no invoice x"),
        (["close", "--period", "november"], "'november' is no month such as 2026-11"),
        (["credit", "a@example.com", "0.0000001", "x"], "no amount such as 12.50"),
        (["credit", "a@example.com", "nan", "x"], "no amount such as 12.50"),
        (["credit", "a@example.com", "0", "x"], "the amount must be 1 to"),
        (["credit-note", "1", "1.000001", "x"], "1000000 micro-units are left"),
        (["credit-note", str(uuid.UUID(int=0)), "1", "x"], "there is no invoice 0000"),
    ],
)
def test_mistakes_are_told(run: Run, usage: Usage, words: list[str], problem: str) -> None:
    run("close")
    with pytest.raises(CommandError) as raised:
        run(*words)
    assert problem in str(raised.value)
