"""Subscriptions: one open one a resource, and plan changes at an instant that is not invoiced."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from billing.invoices import SETTLE_GAP, close
from billing.models import Customer, Plan, Subscription
from billing.periods import month_of
from billing.plans import sync_plans
from billing.subscriptions import (
    NotSubscribed,
    change_plan,
    end_subscription,
    find_customer_id,
    subscribe,
)

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
RESOURCE, CUSTOMER = uuid.uuid4(), uuid.uuid4()


@pytest.fixture
def plans() -> dict[str, Plan]:
    return {plan.slug: plan for plan in sync_plans()}


def start(plan: Plan, now: datetime = NOW, customer_id: uuid.UUID = CUSTOMER) -> Subscription:
    subscribe(
        resource_id=RESOURCE,
        customer_id=customer_id,
        email="a@example.com",
        name="A",
        resource_name="shop-db",
        plan=plan,
        now=now,
    )
    return Subscription.objects.get(resource_id=RESOURCE, end_at=None)


def test_a_resource_has_a_payer_while_it_is_subscribed(plans: dict[str, Plan]) -> None:
    assert find_customer_id(RESOURCE) is None
    start(plans["standard"])
    assert find_customer_id(RESOURCE) == CUSTOMER
    assert Customer.objects.get().email == "a@example.com"
    end_subscription(RESOURCE, LATER)
    assert find_customer_id(RESOURCE) is None
    assert Subscription.objects.get().end_at == LATER


def test_subscribing_again_changes_nothing(plans: dict[str, Plan]) -> None:
    first = start(plans["standard"])
    assert start(plans["dedicated"], LATER, uuid.uuid4()) == first
    assert Subscription.objects.get().customer_id == Customer.objects.get().id == CUSTOMER


def test_ending_again_changes_nothing(plans: dict[str, Plan]) -> None:
    start(plans["standard"])
    end_subscription(RESOURCE, LATER)
    end_subscription(RESOURCE, LATER + timedelta(hours=1))
    assert Subscription.objects.get().end_at == LATER


def test_a_plan_changes_at_an_instant(plans: dict[str, Plan]) -> None:
    start(plans["standard"])
    change_plan(RESOURCE, plans["dedicated"], LATER)
    change_plan(RESOURCE, plans["dedicated"], LATER + timedelta(hours=1))
    before, after = Subscription.objects.order_by("start_at")
    assert (before.plan.slug, before.start_at, before.end_at) == ("standard", NOW, LATER)
    assert (after.plan.slug, after.start_at, after.end_at) == ("dedicated", LATER, None)
    assert (after.customer_id, after.resource_name) == (CUSTOMER, "shop-db")


def test_a_plan_that_was_never_in_force_is_replaced(plans: dict[str, Plan]) -> None:
    start(plans["standard"])
    change_plan(RESOURCE, plans["dedicated"], NOW)
    assert Subscription.objects.get().plan.slug == "dedicated"


def test_only_what_is_subscribed_can_change_its_plan(plans: dict[str, Plan]) -> None:
    with pytest.raises(NotSubscribed, match=str(RESOURCE)):
        change_plan(RESOURCE, plans["dedicated"], NOW)


def test_a_slow_clock_ends_nothing_before_its_start(plans: dict[str, Plan]) -> None:
    start(plans["standard"])
    end_subscription(RESOURCE, NOW - timedelta(hours=1))
    assert Subscription.objects.get().end_at == NOW


def test_a_slow_clock_changes_nothing_that_is_invoiced(plans: dict[str, Plan]) -> None:
    start(plans["standard"])
    november = month_of(NOW)
    close(CUSTOMER, november, november.end_at + SETTLE_GAP)
    end_subscription(RESOURCE, november.end_at - timedelta(hours=1))
    assert Subscription.objects.get().end_at == november.end_at
    assert start(plans["standard"], NOW).start_at == november.end_at


@pytest.mark.django_db(transaction=True)
def test_subscribing_in_parallel_leaves_one_open(plans: dict[str, Plan]) -> None:
    def run() -> None:
        try:
            start(plans["standard"])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Subscription.objects.count() == 1
