"""Plans: what plans.toml says is what the database says."""

from pathlib import Path

import pytest

from billing.plans import find_default_plan, find_plan, plans_of, sync_plans

pytestmark = pytest.mark.django_db

ONE = """
[[plan]]
service_name = "s"
slug = "one"
human_name = "One"
is_default = true
requests_per_minute = 1
tokens_per_minute = 2
"""


def test_the_shipped_plans_have_the_documented_limits() -> None:
    sync_plans()
    plan = find_default_plan("heroku-inference")
    assert plan is not None
    assert plan.name == "heroku-inference:standard"
    assert (plan.requests_per_minute, plan.tokens_per_minute) == (500, 800_000)
    assert plan.is_metered


def test_syncing_twice_changes_nothing() -> None:
    first = [plan.id for plan in sync_plans()]
    assert [plan.id for plan in sync_plans()] == first


def test_a_plan_taken_out_of_the_file_is_hidden_but_stays_usable(tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    file.write_text(ONE + ONE.replace('"one"', '"two"').replace("is_default = true", ""))
    sync_plans(file)
    assert [plan.slug for plan in plans_of("s")] == ["one", "two"]
    file.write_text(ONE)
    sync_plans(file)
    assert [plan.slug for plan in plans_of("s")] == ["one"]
    assert find_plan("s", "two") is not None


def test_the_default_can_move_to_another_plan(tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    file.write_text(ONE)
    sync_plans(file)
    file.write_text(ONE.replace('"one"', '"two"'))
    sync_plans(file)
    default = find_default_plan("s")
    assert default is not None
    assert default.slug == "two"
