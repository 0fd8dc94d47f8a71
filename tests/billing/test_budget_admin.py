"""The admin pages of budgets, notifications and exports."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from billing.budgets import BudgetTerms, create_budget
from billing.models import Budget, BudgetAlert, Customer, Notification, OutboxEntry
from billing.notifications import queue_webhook

pytestmark = pytest.mark.django_db

NOW = datetime.now(UTC)


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator"))
    return client


@pytest.fixture
def customer() -> Customer:
    return Customer.objects.create(id=uuid.uuid4(), email="dev@example.com")


def form(customer: Customer, **changes: Any) -> dict[str, Any]:
    return {
        "customer": str(customer.id),
        "scope": "app",
        "scope_id": "shop",
        "limit_microunits": "5000000",
        "thresholds": "[100, 50]",
        "webhook_url": "https://example.com/hooks",
        **changes,
    }


def test_a_budget_is_made_as_the_code_makes_it(operator: Client, customer: Customer) -> None:
    operator.post(reverse("admin:billing_budget_add"), form(customer))
    budget = Budget.objects.get()
    assert (budget.limit_microunits, budget.thresholds) == (5_000_000, [50, 100])
    assert budget.webhook_secret.startswith("whsec_")


def test_the_secret_of_a_webhook_is_shown_once(operator: Client, customer: Customer) -> None:
    made = operator.post(reverse("admin:billing_budget_add"), form(customer), follow=True)
    budget = Budget.objects.get()
    assert budget.webhook_secret in made.content.decode()
    path = reverse("admin:billing_budget_change", args=[budget.id])
    assert budget.webhook_secret not in operator.get(path).content.decode()
    changed = operator.post(path, form(customer, limit_microunits="7"), follow=True)
    assert budget.webhook_secret not in changed.content.decode()
    kept = Budget.objects.get()
    assert (kept.limit_microunits, kept.webhook_secret) == (7, budget.webhook_secret)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit_microunits", "-1"),
        ("thresholds", "[0]"),
        ("thresholds", '"x"'),
        ("webhook_url", "ftp://example.com"),
        ("webhook_secret", "short"),
        ("scope_id", "x" * 65),
    ],
)
def test_a_wrong_field_is_told_beside_it(
    operator: Client, customer: Customer, field: str, value: str
) -> None:
    answer = operator.post(reverse("admin:billing_budget_add"), form(customer, **{field: value}))
    assert field in answer.context["adminform"].form.errors
    assert not Budget.objects.exists()


def test_a_raised_limit_is_told_of_anew(operator: Client, customer: Customer) -> None:
    budget = create_budget(customer.id, scope="account", terms=BudgetTerms(limit_microunits=10))
    for threshold in (50, 80):
        BudgetAlert.objects.create(
            budget=budget,
            period_start=NOW.date().replace(day=1),
            threshold=threshold,
            limit_microunits=10,
            spent_microunits=8,
            created_at=NOW,
        )
    changed = form(
        customer,
        scope="account",
        scope_id=str(customer.id),
        limit_microunits="16",
        thresholds="[50, 80]",
    )
    operator.post(reverse("admin:billing_budget_change", args=[budget.id]), changed)
    assert [alert.threshold for alert in BudgetAlert.objects.all()] == [50]


def test_what_was_given_up_or_set_aside_can_be_sent_again(operator: Client) -> None:
    data = {"budget_id": str(uuid.uuid4())}
    queue_webhook("https://example.com", "whsec_hidden", event="x", data=data, now=NOW)
    OutboxEntry.objects.create(destination="stripe", event_id=uuid.uuid4(), created_at=NOW)
    for table in (Notification, OutboxEntry):
        table.objects.update(next_attempt_at=None, attempts=9, last_error="no")
        name = f"admin:billing_{table._meta.model_name}_changelist"
        operator.post(
            reverse(name),
            {"action": "send_again", "_selected_action": str(table.objects.get().pk)},
        )
        row = table.objects.get()
        assert (row.attempts, row.last_error) == (0, "")
        assert row.next_attempt_at is not None


def test_what_waits_for_a_destination_that_is_off_can_be_deleted(
    operator: Client, settings: Settings
) -> None:
    settings.EXPORT_STRIPE_KEY = "sk_test"
    waiting = [
        OutboxEntry.objects.create(destination=destination, event_id=uuid.uuid4(), created_at=NOW)
        for destination in ("openmeter", "stripe")
    ]
    operator.post(
        reverse("admin:billing_outboxentry_changelist"),
        {"action": "discard", "_selected_action": [str(entry.pk) for entry in waiting]},
    )
    assert OutboxEntry.objects.get().destination == "stripe"


def test_the_secret_of_a_webhook_is_not_shown_with_what_was_sent(operator: Client) -> None:
    data = {"budget_id": str(uuid.uuid4())}
    sent = queue_webhook("https://example.com", "whsec_hidden", event="x", data=data, now=NOW)
    page = operator.get(reverse("admin:billing_notification_change", args=[sent.id]))
    assert "https://example.com" in page.content.decode()
    assert "whsec_hidden" not in page.content.decode()


def test_of_a_customer_only_stripes_id_is_set(operator: Client, customer: Customer) -> None:
    operator.post(
        reverse("admin:billing_customer_change", args=[customer.id]),
        {"stripe_customer_id": "cus_1", "email": "other@example.com"},
    )
    customer.refresh_from_db()
    assert (customer.stripe_customer_id, customer.email) == ("cus_1", "dev@example.com")
