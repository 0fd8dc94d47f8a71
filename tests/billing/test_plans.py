"""Plans: what plans.toml says is what the database says, and what was sold is never changed."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections
from pytest_django import Settings

from billing.models import Plan, Price
from billing.plans import (
    PLANS_FILE,
    PriceChanged,
    PriceTooLate,
    SecondCurrency,
    find_default_plan,
    find_plan,
    hide_plans_of_other_models,
    plans_of,
    sync_plans,
)
from billing.plans_file import InvalidPlans, PlanEntry, PriceEntry, read_plans
from billing.prices import prices_of

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ONE = """
[[plan]]
service_name = "s"
slug = "one"
human_name = "One"
is_default = true
requests_per_minute = 1
tokens_per_minute = 2
"""
PRICE = """
[[plan.price]]
active_from = 2026-01-01T00:00:00Z
monthly = 5_000_000
tokens = { "*" = 20_000 }
"""
LATER = PRICE.replace("2026-01-01", "2026-12-01").replace("20_000", "30_000")

Sync = Callable[[str], list[Plan]]


@pytest.fixture
def sync(tmp_path: Path) -> Sync:
    def sync(text: str) -> list[Plan]:
        file = tmp_path / "plans.toml"
        file.write_text(text)
        return sync_plans(file, now=NOW)

    return sync


def test_the_shipped_plans_have_the_documented_limits() -> None:
    sync_plans()
    plan = find_default_plan("heroku-inference")
    assert plan is not None
    assert plan.name == "heroku-inference:standard"
    assert (plan.requests_per_minute, plan.tokens_per_minute) == (500, 800_000)
    assert plan.concurrent_requests == 100
    assert plan.is_metered


def test_each_model_of_the_product_documents_has_a_plan_of_its_own() -> None:
    sync_plans()
    for model_id in ("cohere-embed-multilingual", "cohere-embed-v4", "all-minilm-l6-v2"):
        plan = find_plan("heroku-inference", model_id)
        assert plan is not None
        assert (plan.model_id, plan.serves_all_models) == (model_id, False)
    standard = find_plan("heroku-inference", "standard")
    assert standard is not None
    assert standard.serves_all_models


def test_a_model_costs_the_same_on_its_own_plan_and_on_standard() -> None:
    plans = {plan.slug: plan for plan in sync_plans()}
    (standard,) = prices_of(plans.pop("standard"))
    for plan in plans.values():
        if not plan.serves_all_models:
            (price,) = prices_of(plan)
            model_id = plan.model_id
            assert price.token_price(model_id) == standard.token_price(model_id) > 0


def test_the_dedicated_plan_is_paid_for_by_the_hour_of_its_worker() -> None:
    plan = {plan.slug: plan for plan in sync_plans()}["dedicated"]
    (price,) = prices_of(plan)
    assert (plan.worker_pool, plan.workers, plan.is_metered) == ("resource", 1, False)
    assert price.worker_hour_microunits == 2_940_000
    assert price.cost_picounits("cohere-embed-v4", text_tokens=10**9, image_tokens=10**9) == 0


def test_every_key_and_price_is_documented() -> None:
    page = (PLANS_FILE.parents[1] / "docs" / "plans.md").read_text()
    keys = {*PlanEntry.__struct_fields__, *PriceEntry.__struct_fields__}
    assert {key for key in keys if f"`{key}`" not in page} == {"price"}  # written [[plan.price]]
    (standard, *_) = read_plans(PLANS_FILE)
    (price,) = standard.price
    assert f"the others ${price.tokens.pop('*') / 10**6:.2f}" in page
    for model_id, microunits in price.tokens.items():
        assert f"`{model_id}` ${microunits / 10**6:.2f}" in page
    for microunits in price.image_tokens.values():
        assert f"(images ${microunits / 10**6:.2f})" in page
    (dedicated,) = (plan for plan in read_plans(PLANS_FILE) if plan.slug == "dedicated")
    assert f"${dedicated.price[0].worker_hour / 10**6:.2f} a worker-hour" in page


def test_a_line_taken_out_of_the_file_no_longer_holds(sync: Sync) -> None:
    own = (
        'model_id = "m"\nserves_all_models = false\nworker_pool = "own"\nconcurrent_requests = 3\n'
    )
    assert not sync(ONE + own + PRICE)[0].serves_all_models
    plan = sync(ONE + PRICE)[0]
    assert (plan.serves_all_models, plan.model_id, plan.worker_pool) == (True, "", "shared")
    assert plan.concurrent_requests is None


def test_a_plan_of_a_model_that_the_catalogue_lacks_is_not_on_sale() -> None:
    sync_plans()
    own = {plan.model_id for plan in Plan.objects.filter(serves_all_models=False)}
    hidden = hide_plans_of_other_models({"all-minilm-l6-v2", "cohere-embed-v4"})
    assert {plan.slug for plan in hidden} == own - {"all-minilm-l6-v2", "cohere-embed-v4"}
    on_sale = [plan.slug for plan in plans_of("heroku-inference")]
    assert on_sale == ["standard", "all-minilm-l6-v2", "cohere-embed-v4", "dedicated"]


def test_syncing_twice_changes_nothing() -> None:
    first = [(plan.id, prices_of(plan)) for plan in sync_plans()]
    assert [(plan.id, prices_of(plan)) for plan in sync_plans()] == first


@pytest.mark.django_db(transaction=True)
def test_syncing_in_parallel_adds_each_price_once() -> None:
    def run() -> None:
        try:
            sync_plans()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Price.objects.count() == Plan.objects.count() == len(read_plans(PLANS_FILE))


def test_a_plan_taken_out_of_the_file_is_hidden_but_stays_usable(sync: Sync) -> None:
    two = ONE.replace('"one"', '"two"').replace("is_default = true", "")
    sync(ONE + PRICE + two + PRICE)
    assert [plan.slug for plan in plans_of("s")] == ["one", "two"]
    sync(ONE + PRICE)
    assert [plan.slug for plan in plans_of("s")] == ["one"]
    assert find_plan("s", "two") is not None


def test_the_default_can_move_to_another_plan(sync: Sync) -> None:
    sync(ONE + PRICE)
    sync((ONE + PRICE).replace('"one"', '"two"'))
    default = find_default_plan("s")
    assert default is not None
    assert default.slug == "two"


def test_a_later_version_is_added_beside_the_first(sync: Sync) -> None:
    (plan,) = sync(ONE + PRICE)
    (first,) = prices_of(plan)
    sync(ONE + PRICE + LATER)
    prices = prices_of(plan)
    assert prices[0] == first
    assert [(price.version, price.token_price("m")) for price in prices] == [
        (1, 20_000),
        (2, 30_000),
    ]


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ("20_000", "tokens was {'*': 20000} and is {'*': 20001}"),
        ("5_000_000", "monthly was 5000000 and is 5000001"),
        ("2026-01-01", "active_from was 2026-01-01T00:00:00+00:00 and is 2026-01-02"),
    ],
)
def test_a_version_that_was_sold_cannot_be_changed(
    sync: Sync, changed: str, difference: str
) -> None:
    sync(ONE + PRICE + LATER)
    text = ONE + PRICE.replace(changed, changed[:-1] + ("2" if "-" in changed else "1")) + LATER
    with pytest.raises(PriceChanged) as raised:
        sync(text.replace('human_name = "One"', 'human_name = "Another"'))
    assert "plan s:one: price version 1" in str(raised.value)
    assert difference in str(raised.value)
    assert Plan.objects.get().human_name == "One"  # nothing of the file was taken


def test_a_version_that_was_sold_cannot_be_taken_out(sync: Sync) -> None:
    sync(ONE + PRICE + LATER)
    with pytest.raises(PriceChanged, match="plan s:one: price version 2 is not in the file"):
        sync(ONE + PRICE)


def test_the_workers_of_a_plan_that_was_sold_cannot_be_changed(sync: Sync) -> None:
    sync(ONE + "workers = 1\n" + PRICE)
    with pytest.raises(PriceChanged, match=r"plan s:one: workers was 1 .* is 2"):
        sync(ONE + "workers = 2\n" + PRICE)


def test_a_price_cannot_be_changed_in_the_database_either(sync: Sync) -> None:
    sync(ONE + PRICE)
    with pytest.raises(DatabaseError, match="only ever added to"):
        Price.objects.update(monthly_microunits=0)


def test_a_later_version_cannot_begin_in_the_past(sync: Sync) -> None:
    sync(ONE + PRICE)
    with pytest.raises(PriceTooLate, match=r"price version 2: active_from 2026-11-01.* has passed"):
        sync(ONE + PRICE + LATER.replace("2026-12-01", "2026-11-01"))


def test_a_later_version_begins_once_every_process_knows_it(sync: Sync, settings: Settings) -> None:
    settings.KEY_CACHE_S = 30
    sync(ONE + PRICE)
    with pytest.raises(PriceTooLate, match=r"within KEY_CACHE_S \(30 s\)"):
        sync(ONE + PRICE + LATER.replace("2026-12-01T00:00:00", "2026-11-21T12:00:30"))
    sync(ONE + PRICE + LATER.replace("2026-12-01T00:00:00", "2026-11-21T12:00:31"))


def test_a_plan_has_a_price_from_its_first_moment(sync: Sync) -> None:
    with pytest.raises(PriceTooLate, match=r"price version 1: active_from 2026-12-01.* to come"):
        sync(ONE + LATER)
    assert not Plan.objects.exists()


def test_a_deployment_has_one_currency(sync: Sync) -> None:
    sync(ONE + PRICE)
    euro = ONE.replace('"one"', '"two"') + PRICE + 'currency = "eur"\n'
    with pytest.raises(SecondCurrency, match=r"eur \(s:two\), usd \(s:one\)"):
        sync(euro)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("requests_per_minute = 1", "", "plan one: requests_per_minute is missing"),
        ("= 1\n", '= "many"\n', "plan one: requests_per_minute: expected `int`, got `str`"),
        ("= 1\n", "= 0\n", "plan one: requests_per_minute: expected `int` >= 1"),
        ("tokens_per", "token_per", "token_per_minute is not a key: did you mean tokens_per"),
        ("monthly", "monthyl", "price[0].monthyl is not a key: did you mean monthly?"),
        ("5_000_000", "-1", "plan one: price[0].monthly: expected `int` >= 0"),
        ("5_000_000", str(10**12 + 1), "price[0].monthly: expected `int` <= 1000000000000"),
        ("20_000", str(2**64), "price[0].tokens[...]: expected `int`"),
        ("= 1\n", f"= {2**31}\n", "requests_per_minute: expected `int` <= 2147483647"),
        ("20_000", "0.5", "plan one: price[0].tokens[...]: expected `int`, got `float`"),
        ("T00:00:00Z", "T00:00:00", "price[0].active_from: expected `datetime` with a timezone"),
        ("tokens = ", "image_tokens = ", "plan s:one: price[0].tokens has no price for *"),
        ("monthly", "worker_hour", "price[0].worker_hour is the price of workers, and workers"),
        ("is_default = true", "serves_all_models = false", "plan s:one: model_id is missing"),
        ("[[plan.price]]", "[plan.price]", "plan one: price: expected `array`, got `object`"),
        (PRICE, "", "plan one: price is missing"),
        (PRICE, PRICE + PRICE, "price[1].active_from must be later than that of the price before"),
        (PRICE, PRICE + ONE + PRICE, "plan s:one: slug is that of 2 plans"),
        ("[[plan]]", "[[plans]]", "plans.toml has [[plan]] tables, and nothing beside them"),
        ('"s"', '"s', "plans.toml: Illegal character"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_by_plan_and_key(
    sync: Sync, old: str, new: str, problem: str
) -> None:
    assert old in ONE + PRICE
    with pytest.raises(InvalidPlans) as raised:
        sync((ONE + PRICE).replace(old, new, 1))
    assert problem in str(raised.value)
    assert str(raised.value).startswith("plans.toml")
    assert not Plan.objects.exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlans, match=r"nowhere\.toml cannot be read: No such file"):
        sync_plans(tmp_path / "nowhere.toml")


def test_a_release_that_would_change_a_price_says_which_and_fails() -> None:
    (standard, *_) = sync_plans()
    Price.objects.create(plan=standard, version=2, active_from=NOW, token_prices={"*": 1})
    with pytest.raises(CommandError, match="heroku-inference:standard: price version 2 is not in"):
        call_command("sync_catalogue")
