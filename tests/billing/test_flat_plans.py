from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from billing.flat_plans import FlatPlan, hide_plans, sync_flat_plans
from billing.models import Plan, Price
from billing.plans import find_default_plan, plans_of, sync_plans
from billing.prices import price_at, prices_of

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 1, tzinfo=UTC)
BASIC = FlatPlan(
    slug="basic", human_name="Basic", description="Small", is_default=True, monthly_cents=900
)
BIG = replace(BASIC, slug="big", human_name="Big", is_default=False, monthly_cents=9900)


def test_a_flat_plan_is_on_sale_at_its_price_at_once() -> None:
    (plan,) = sync_flat_plans("fast-db", [BASIC], NOW)
    assert find_default_plan("fast-db") == plan
    price = price_at(prices_of(plan), NOW)
    assert (price.monthly_microunits, price.token_prices) == (9_000_000, {})
    assert (plan.is_metered, plan.model_id) == (False, "")


def test_the_same_again_changes_nothing() -> None:
    for _ in range(2):
        sync_flat_plans("fast-db", [BASIC, BIG], NOW)
    assert [plan.slug for plan in plans_of("fast-db")] == ["basic", "big"]
    assert Price.objects.count() == 2


def test_another_price_is_a_version_in_force_a_minute_later() -> None:
    sync_flat_plans("fast-db", [BASIC], NOW)
    later = NOW + timedelta(days=3)
    (plan,) = sync_flat_plans("fast-db", [replace(BASIC, monthly_cents=1000)], later)
    versions = prices_of(plan)
    assert price_at(versions, later).monthly_microunits == 9_000_000
    assert price_at(versions, later + timedelta(minutes=1)).monthly_microunits == 10_000_000


def test_prices_that_change_twice_within_a_minute_follow_each_other() -> None:
    for cents in (900, 1000, 1100):
        (plan,) = sync_flat_plans("fast-db", [replace(BASIC, monthly_cents=cents)], NOW)
    versions = prices_of(plan)
    assert [version.version for version in versions] == [1, 2, 3]
    assert versions[-1].monthly_microunits == 11_000_000


def test_a_plan_that_is_not_named_any_more_is_not_sold_and_the_default_moves() -> None:
    sync_flat_plans("fast-db", [BASIC, BIG], NOW)
    sync_flat_plans("fast-db", [replace(BIG, is_default=True)], NOW)
    assert [plan.slug for plan in plans_of("fast-db")] == ["big"]
    assert find_default_plan("fast-db") == Plan.objects.get(slug="big")
    hide_plans("fast-db")
    assert not plans_of("fast-db").exists()
    assert Plan.objects.count() == 2


def test_the_plans_of_the_file_and_those_of_partners_leave_each_other_alone() -> None:
    sync_plans()
    sync_flat_plans("fast-db", [BASIC], NOW)
    before = set(plans_of("heroku-inference"))
    sync_plans()
    hide_plans("fast-db")
    sync_flat_plans("fast-db", [BASIC], NOW)
    assert before == set(plans_of("heroku-inference"))
    assert plans_of("fast-db").count() == 1
