"""Budgets are checked when they are set, and each threshold is told of once a month."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from billing.budgets import (
    LIMIT_MAX_MICROUNITS,
    BudgetExists,
    BudgetTerms,
    InvalidBudget,
    UnknownBudget,
    _is_reached,
    check_budgets,
    create_budget,
    delete_budget,
    list_budgets,
    read_spent,
    tell_cap_reached,
    update_budget,
)
from billing.metering import Ledger, Usage
from billing.models import Budget, BudgetAlert, Customer, Notification
from tests.billing.conftest import NewUsage
from tests.billing.parallel import at_once

pytestmark = pytest.mark.django_db(transaction=True)

DOLLAR = 1_000_000
PICO = 1_000_000_000_000

Spend = Callable[..., Usage]


@pytest.fixture
def customer() -> Customer:
    return Customer.objects.create(id=uuid.uuid4(), email="dev@example.com")


@pytest.fixture
def spend(customer: Customer, new_usage: NewUsage) -> Spend:
    """Records usage of the customer that costs so many dollars."""

    def spend(dollars: float, **changes: Any) -> Usage:
        usage = new_usage(customer_id=customer.id, cost_picounits=round(dollars * PICO), **changes)

        async def record() -> None:
            ledger = Ledger()
            await ledger.record(usage)
            await ledger.close()

        asyncio.run(record())
        return usage

    return spend


def now() -> datetime:
    return datetime.now(UTC)


def account_budget(customer: Customer, **terms: Any) -> Budget:
    wanted = BudgetTerms(**{"limit_microunits": 10 * DOLLAR, "email": "a@example.com", **terms})
    return create_budget(customer.id, scope="account", terms=wanted)


def told() -> list[int]:
    return sorted(BudgetAlert.objects.values_list("threshold", flat=True))


def test_each_threshold_is_told_once_when_it_is_reached(customer: Customer, spend: Spend) -> None:
    account_budget(customer)
    spend(4.999999)
    assert not check_budgets(now())
    spend(0.000001)
    assert [alert.threshold for alert in check_budgets(now())] == [50]
    assert not check_budgets(now())
    spend(5)
    assert [alert.threshold for alert in check_budgets(now())] == [80, 100]
    spend(100)
    assert not check_budgets(now())
    assert Notification.objects.count() == 3


def test_the_next_month_starts_anew(customer: Customer, spend: Spend) -> None:
    account_budget(customer)
    spend(20)
    assert len(check_budgets(now())) == 3
    assert not check_budgets(now() + timedelta(days=40))
    assert told() == [50, 80, 100]


def test_what_was_spent_just_before_the_months_end_is_told_just_after_it(
    customer: Customer, spend: Spend
) -> None:
    account_budget(customer, thresholds=(100,))
    spend(20)
    end = (now().replace(day=1) + timedelta(days=31)).replace(day=1, hour=0, minute=0, second=5)
    assert [alert.period_start.month for alert in check_budgets(end)] == [now().month]


def test_a_scope_counts_what_is_its_own(customer: Customer, spend: Spend) -> None:
    other = Customer.objects.create(id=uuid.uuid4())
    usage = spend(6, app_name="shop")
    spend(1, app_name="blog")
    terms = BudgetTerms(limit_microunits=10 * DOLLAR)
    mine = {
        "account": create_budget(customer.id, scope="account", terms=terms),
        "shop": create_budget(customer.id, scope="app", scope_id="shop", terms=terms),
        "blog": create_budget(customer.id, scope="app", scope_id="blog", terms=terms),
        "attachment": create_budget(
            customer.id, scope="attachment", scope_id=str(usage.attachment_id).upper(), terms=terms
        ),
        "stranger": create_budget(
            other.id, scope="attachment", scope_id=str(usage.attachment_id), terms=terms
        ),
    }
    spent = {name: read_spent(budget, now()) // PICO for name, budget in mine.items()}
    assert spent == {"account": 7, "shop": 6, "blog": 1, "attachment": 6, "stranger": 0}
    assert {alert.budget_id for alert in check_budgets(now())} == {
        mine[name].id for name in ("account", "shop", "attachment")
    }


def test_checks_in_parallel_tell_once(customer: Customer, spend: Spend) -> None:
    account_budget(customer)
    spend(20)

    assert sum(at_once(8, lambda: len(check_budgets(now())))) == 3
    assert Notification.objects.count() == 3


def test_e_mail_and_webhook_say_what_happened(customer: Customer, spend: Spend) -> None:
    budget = account_budget(
        customer, is_hard=True, thresholds=[80], webhook_url="https://example.com/hooks"
    )
    spend(8.5)
    check_budgets(now())
    email = Notification.objects.get(channel="email")
    assert email.target == "a@example.com"
    assert email.subject == "80 % of the budget for the account is spent"
    assert "8.500000 of 10.000000" in email.payload["text"]
    assert "refused with status 402" in email.payload["text"]
    webhook = Notification.objects.get(channel="webhook")
    assert webhook.secret == budget.webhook_secret
    assert webhook.payload["type"] == "budget.threshold_reached"
    assert webhook.payload["data"] == {
        "budget_id": str(budget.id),
        "customer_id": str(customer.id),
        "scope": "account",
        "scope_id": str(customer.id),
        "is_hard": True,
        "threshold": 80,
        "period_start": now().strftime("%Y-%m-01"),
        "limit_microunits": "10000000",
        "spent_microunits": "8500000",
    }


def test_nobody_is_told_where_the_alert_is_not_kept(
    customer: Customer, spend: Spend, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_budget(customer, webhook_url="https://example.com/hooks")
    spend(6)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("billing.budgets.queue_webhook", fail)
    with pytest.raises(RuntimeError):
        check_budgets(now())
    assert not BudgetAlert.objects.exists()
    assert not Notification.objects.exists()


def test_a_raised_limit_is_told_of_anew(customer: Customer, spend: Spend) -> None:
    budget = account_budget(customer)
    spend(8)
    check_budgets(now())
    assert told() == [50, 80]
    update_budget(customer.id, budget.id, {"limit_microunits": 15 * DOLLAR}, now())
    assert told() == [50]
    assert not check_budgets(now())
    spend(5)
    assert [alert.threshold for alert in check_budgets(now())] == [80]


def test_a_limit_that_goes_up_and_down_tells_an_address_so_many_times_a_day(
    customer: Customer, spend: Spend, caplog: pytest.LogCaptureFixture
) -> None:
    thresholds = list(range(10, 101, 10))
    terms = {"limit_microunits": 0, "thresholds": thresholds, "webhook_url": "https://example.com"}
    budget = account_budget(customer, **terms)
    spend(1)
    for _ in range(3):
        assert len(check_budgets(now())) == 10
        update_budget(customer.id, budget.id, {"limit_microunits": 10**9}, now())
        update_budget(customer.id, budget.id, {"limit_microunits": 0}, now())
    delete_budget(customer.id, budget.id)
    account_budget(customer, **terms, email="A+again@Example.com")
    alerts = check_budgets(now())
    assert Notification.objects.filter(channel="email").count() == 20
    assert Notification.objects.filter(channel="webhook").count() == 40
    said = "Email: A+again@Example.com has had 20 within 24 hours"
    assert {alert.not_told for alert in alerts} == {said}
    assert said in caplog.text
    delete_budget(customer.id, alerts[0].budget_id)
    account_budget(customer, **terms, email="b@example.com")
    assert {alert.not_told for alert in check_budgets(now())} == {""}


def test_other_changes_tell_nothing_again(customer: Customer, spend: Spend) -> None:
    budget = account_budget(customer)
    spend(8)
    check_budgets(now())
    update_budget(customer.id, budget.id, {"email": "b@example.com", "is_hard": True}, now())
    assert not check_budgets(now())
    assert told() == [50, 80]


def test_a_limit_of_nothing_is_reached_by_the_first_cost(customer: Customer, spend: Spend) -> None:
    account_budget(customer, limit_microunits=0)
    assert not check_budgets(now())
    spend(0.000001)
    assert len(check_budgets(now())) == 3


def test_a_refusal_by_a_hard_budget_is_told_of_once(customer: Customer, spend: Spend) -> None:
    account_budget(customer, is_hard=True, thresholds=[100])
    spend(9.99)
    assert not check_budgets(now())
    assert tell_cap_reached(customer.id, "account", str(customer.id), now())
    assert not tell_cap_reached(customer.id, "account", str(customer.id), now())
    assert Notification.objects.count() == 1


def test_a_refusal_is_told_of_only_where_that_is_wanted(customer: Customer) -> None:
    assert not tell_cap_reached(customer.id, "account", str(customer.id), now())
    account_budget(customer, is_hard=True, thresholds=[50])
    assert not tell_cap_reached(customer.id, "account", str(customer.id), now())
    assert not Notification.objects.exists()


@pytest.mark.parametrize(
    ("field", "terms"),
    [
        ("limit_microunits", {"limit_microunits": -1}),
        ("limit_microunits", {"limit_microunits": LIMIT_MAX_MICROUNITS + 1}),
        ("limit_microunits", {"limit_microunits": True}),
        ("limit_microunits", {"limit_microunits": 1.5}),
        ("is_hard", {"is_hard": "yes"}),
        ("thresholds", {"thresholds": (0,)}),
        ("thresholds", {"thresholds": (1001,)}),
        ("thresholds", {"thresholds": ("50",)}),
        ("thresholds", {"thresholds": 50}),
        ("thresholds", {"thresholds": tuple(range(1, 12))}),
        ("email", {"email": "nobody"}),
        ("email", {"email": "a@example.com\nBcc: b@example.com"}),
        ("webhook_url", {"webhook_url": "ftp://example.com"}),
        ("webhook_secret", {"webhook_url": "https://example.com", "webhook_secret": "short"}),
    ],
)
def test_terms_that_cannot_be_are_refused_by_field(
    customer: Customer, field: str, terms: dict[str, Any]
) -> None:
    with pytest.raises(InvalidBudget, match=f"'{field}' must") as caught:
        account_budget(customer, **terms)
    assert caught.value.field == field
    budget = account_budget(customer)
    with pytest.raises(InvalidBudget, match=f"'{field}' must"):
        update_budget(customer.id, budget.id, terms, now())
    budget.refresh_from_db()
    assert budget.limit_microunits == 10 * DOLLAR


@pytest.mark.parametrize(
    ("field", "scope", "scope_id"),
    [
        ("scope", "team", ""),
        ("scope_id", "attachment", "EMBEDDING"),
        ("scope_id", "app", ""),
        ("scope_id", "app", "x" * 65),
        ("scope_id", "app", "two\nlines"),
        ("scope_id", "account", str(uuid.UUID(int=1))),
    ],
)
def test_scopes_that_cannot_be_are_refused_by_field(
    customer: Customer, field: str, scope: str, scope_id: str
) -> None:
    with pytest.raises(InvalidBudget) as caught:
        create_budget(
            customer.id, scope=scope, scope_id=scope_id, terms=BudgetTerms(limit_microunits=1)
        )
    assert caught.value.field == field


def test_an_unknown_customer_has_no_budgets() -> None:
    with pytest.raises(InvalidBudget, match="'customer'"):
        create_budget(uuid.uuid4(), scope="account", terms=BudgetTerms(limit_microunits=1))


def test_a_scope_has_one_budget(customer: Customer) -> None:
    account_budget(customer)
    with pytest.raises(BudgetExists):
        account_budget(customer)


def test_a_webhook_is_given_a_secret_that_signs(customer: Customer) -> None:
    budget = account_budget(customer, webhook_url="https://example.com/hooks")
    assert Webhook(budget.webhook_secret).sign("id", now(), "{}").startswith("v1,")
    kept = update_budget(customer.id, budget.id, {"webhook_url": "https://example.org"}, now())
    assert kept.webhook_secret == budget.webhook_secret


def test_what_cannot_be_set_is_named(customer: Customer) -> None:
    budget = account_budget(customer)
    with pytest.raises(InvalidBudget, match="'scope' must be one of email, is_hard"):
        update_budget(customer.id, budget.id, {"scope": "app"}, now())


def test_a_budget_is_seen_changed_and_deleted_by_its_customer_only(customer: Customer) -> None:
    stranger = Customer.objects.create(id=uuid.uuid4())
    budget = account_budget(customer)
    assert list_budgets(stranger.id) == []
    with pytest.raises(UnknownBudget):
        update_budget(stranger.id, budget.id, {"limit_microunits": 1}, now())
    with pytest.raises(UnknownBudget):
        delete_budget(stranger.id, budget.id)
    assert list_budgets(customer.id) == [budget]
    delete_budget(customer.id, budget.id)
    assert list_budgets(customer.id) == []


@given(
    limit=st.integers(0, LIMIT_MAX_MICROUNITS),
    threshold=st.integers(1, 1_000),
    picounits=st.integers(1, 2**63 - 1),
)
def test_a_threshold_is_reached_at_exactly_its_part_of_the_limit(
    limit: int, threshold: int, picounits: int
) -> None:
    budget = Budget(limit_microunits=limit)
    reached_from = -(-limit * 1_000_000 * threshold // 100)
    assert _is_reached(budget, threshold, picounits) == (picounits >= reached_from)
