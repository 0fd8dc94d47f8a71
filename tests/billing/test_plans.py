"""Plans: what plans.toml says is what the database says."""

from pathlib import Path

import pytest
from django.db import IntegrityError

from billing.plans import (
    find_default_plan,
    find_plan,
    hide_plans_of_other_models,
    plans_of,
    sync_plans,
)

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


def test_each_model_of_the_product_documents_has_a_plan_of_its_own() -> None:
    sync_plans()
    for model_id in ("cohere-embed-multilingual", "cohere-embed-v4", "all-minilm-l6-v2"):
        plan = find_plan("heroku-inference", model_id)
        assert plan is not None
        assert (plan.model_id, plan.serves_all_models) == (model_id, False)
    standard = find_plan("heroku-inference", "standard")
    assert standard is not None
    assert standard.serves_all_models


def test_a_line_taken_out_of_the_file_no_longer_holds(tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    file.write_text(ONE + 'model_id = "m"\nserves_all_models = false\nworker_pool = "own"\n')
    assert not sync_plans(file)[0].serves_all_models
    file.write_text(ONE)
    plan = sync_plans(file)[0]
    assert (plan.serves_all_models, plan.model_id, plan.worker_pool) == (True, "", "shared")


def test_a_plan_of_one_model_must_name_it(tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    file.write_text(ONE + "serves_all_models = false\n")
    with pytest.raises(IntegrityError, match="plan_of_one_model_names_it"):
        sync_plans(file)


def test_a_plan_of_a_model_that_the_catalogue_lacks_is_not_on_sale() -> None:
    sync_plans()
    hidden = hide_plans_of_other_models({"all-minilm-l6-v2", "cohere-embed-v4"})
    assert [plan.slug for plan in hidden] == ["cohere-embed-multilingual"]
    on_sale = [plan.slug for plan in plans_of("heroku-inference")]
    assert on_sale == ["standard", "all-minilm-l6-v2", "cohere-embed-v4"]


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
