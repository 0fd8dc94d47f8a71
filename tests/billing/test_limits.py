"""Which limits hold: the first that is stated, from the attachment's override to the plan."""

import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from billing.limits import effective_limits, find_caps, find_overrides
from billing.models import Budget, Customer, LimitOverride
from billing.rate_limits import Limits

PLAN = SimpleNamespace(requests_per_minute=500, tokens_per_minute=800_000, concurrent_requests=None)
MODEL = SimpleNamespace(requests_per_minute=None, tokens_per_minute=400_000, concurrent_requests=8)


def override(scope: str, scope_id: uuid.UUID, **stated: Any) -> None:
    LimitOverride.objects.create(scope=scope, scope_id=scope_id, **stated)


@pytest.fixture
def attachment_id() -> uuid.UUID:
    return uuid.uuid4()


@pytest.fixture
def customer_id() -> uuid.UUID:
    return Customer.objects.create(id=uuid.uuid4()).id


def limits(attachment_id: uuid.UUID, customer_id: uuid.UUID, model_id: str = "m") -> Limits:
    overrides = find_overrides(attachment_id, customer_id)
    return effective_limits(model_id, overrides, MODEL, PLAN)


@pytest.mark.django_db
def test_without_overrides_the_model_then_the_plan_decides(
    attachment_id: uuid.UUID, customer_id: uuid.UUID
) -> None:
    expected = Limits(requests=500, tokens=400_000, concurrent=8)
    assert limits(attachment_id, customer_id) == expected


@pytest.mark.django_db
def test_each_limit_is_that_of_the_closest_override_that_states_it(
    attachment_id: uuid.UUID, customer_id: uuid.UUID
) -> None:
    override("account", customer_id, requests_per_minute=1, tokens_per_minute=1, is_shadow=True)
    override("account", customer_id, model_id="m", requests_per_minute=2, tokens_per_minute=2)
    override("attachment", attachment_id, requests_per_minute=3)
    override("attachment", attachment_id, model_id="m", concurrent_requests=4)
    override("attachment", uuid.uuid4(), requests_per_minute=5)
    override("account", uuid.uuid4(), requests_per_minute=6)
    assert limits(attachment_id, customer_id) == Limits(
        requests=3, tokens=2, concurrent=4, is_shadow=True
    )
    assert limits(attachment_id, customer_id, "another") == Limits(
        requests=3, tokens=1, concurrent=8, is_shadow=True
    )
    assert limits(uuid.uuid4(), customer_id).requests == 2


@pytest.mark.django_db
def test_none_at_all_can_be_the_limit(attachment_id: uuid.UUID, customer_id: uuid.UUID) -> None:
    override("attachment", attachment_id, requests_per_minute=0)
    assert limits(attachment_id, customer_id).requests == 0


@pytest.mark.django_db
def test_shadow_mode_for_all_holds_unless_an_override_says_otherwise(
    attachment_id: uuid.UUID, customer_id: uuid.UUID, settings: Settings
) -> None:
    settings.LIMITS_SHADOW = True
    assert limits(attachment_id, customer_id).is_shadow
    override("attachment", attachment_id, is_shadow=False)
    assert not limits(attachment_id, customer_id).is_shadow


@pytest.mark.django_db
def test_caps_are_the_hard_budgets_that_the_request_counts_in(
    attachment_id: uuid.UUID, customer_id: uuid.UUID
) -> None:
    other = Customer.objects.create(id=uuid.uuid4())
    rows = [
        (customer_id, "account", str(customer_id), True),
        (customer_id, "app", "shop", True),
        (customer_id, "app", "blog", True),
        (customer_id, "attachment", str(attachment_id), False),
        (customer_id, "attachment", str(uuid.uuid4()), True),
        (other.id, "app", "shop", True),
    ]
    for number, (payer, scope, scope_id, is_hard) in enumerate(rows):
        Budget.objects.create(
            customer_id=payer,
            scope=scope,
            scope_id=scope_id,
            is_hard=is_hard,
            limit_microunits=number,
        )
    caps = find_caps(customer_id, "shop", attachment_id)
    assert {(cap.scope, cap.limit_microunits) for cap in caps} == {("account", 0), ("app", 1)}


@pytest.mark.django_db
def test_operators_set_overrides_in_the_admin(
    client: Client, attachment_id: uuid.UUID, customer_id: uuid.UUID
) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    stated = {
        "scope": "attachment",
        "scope_id": str(attachment_id),
        "tokens_per_minute": "9",
        "is_shadow": "unknown",
    }
    add = reverse("admin:billing_limitoverride_add")
    assert client.post(add, stated).status_code == 302
    assert limits(attachment_id, customer_id) == Limits(requests=500, tokens=9, concurrent=8)
    assert client.post(add, stated).status_code == 200  # there is one already
    assert LimitOverride.objects.count() == 1
    listed = client.get(
        reverse("admin:billing_limitoverride_changelist"), {"q": str(attachment_id)}
    )
    assert str(attachment_id) in listed.content.decode()
