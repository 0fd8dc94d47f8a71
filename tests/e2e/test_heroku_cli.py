"""The commands that people type, with the real Heroku CLI; asserted is what they see."""

import json
import secrets

from tests.e2e.cli import HerokuCli, curl
from tests.e2e.conftest import Embedding


def test_whoami_names_the_account(heroku: HerokuCli) -> None:
    assert heroku("auth:whoami").stdout.strip() == "dev@example.com"


def test_an_app_is_created_shown_and_destroyed(heroku: HerokuCli) -> None:
    name = f"shop-{secrets.token_hex(4)}"
    assert name in heroku("apps:create", name).seen
    info = heroku("apps:info", "--app", name).seen
    assert name in info
    assert "dev@example.com" in info
    assert "done" in heroku("apps:destroy", "--app", name, "--confirm", name).seen
    gone = heroku.try_("apps:info", "--app", name)
    assert gone.status != 0
    assert "Couldn't find that app" in gone.seen


def test_the_service_and_its_plans_are_listed(heroku: HerokuCli) -> None:
    assert "heroku-inference" in heroku("addons:services").seen
    plans = heroku("addons:plans", "heroku-inference").seen
    assert "heroku-inference:standard" in plans


def test_creating_an_addon_sets_the_config_vars(heroku: HerokuCli, app: str) -> None:
    created = heroku(
        "addons:create", "heroku-inference:standard", "--app", app, "--as", "EMBEDDING"
    )
    for name in ("EMBEDDING_KEY", "EMBEDDING_MODEL_ID", "EMBEDDING_URL"):
        assert name in created.seen
    listed = heroku("addons", "--app", app).seen
    assert "heroku-inference" in listed
    assert "EMBEDDING" in listed
    info = heroku("addons:info", "EMBEDDING", "--app", app).seen
    assert "heroku-inference:standard" in info
    assert app in info


def test_an_unknown_plan_is_refused_in_words(heroku: HerokuCli, app: str) -> None:
    refused = heroku.try_("addons:create", "heroku-inference:gigantic", "--app", app)
    assert refused.status != 0
    assert "Couldn't find" in refused.seen


def test_an_addon_is_attached_under_another_name_and_detached(
    heroku: HerokuCli, app: str, embedding: Embedding
) -> None:
    name = heroku("addons:info", "EMBEDDING", "--app", app).stdout.split()[1]
    heroku("addons:attach", name, "--app", app, "--as", "SEARCH")
    config = heroku.config(app)
    assert config["SEARCH_URL"] == embedding.url
    assert config["SEARCH_KEY"] != embedding.key
    assert "done" in heroku("addons:detach", "SEARCH", "--app", app).seen
    assert "SEARCH_KEY" not in heroku.config(app)
    assert "EMBEDDING_KEY" in heroku.config(app)


def test_destroying_an_addon_removes_its_config_vars(
    heroku: HerokuCli, app: str, embedding: Embedding
) -> None:
    assert heroku.config(app)["EMBEDDING_KEY"] == embedding.key
    heroku("addons:destroy", "EMBEDDING", "--app", app, "--confirm", app)
    assert "EMBEDDING_KEY" not in heroku.config(app)
    assert "heroku-inference" not in heroku("addons", "--app", app).stdout


def test_the_plan_of_an_addon_is_changed_up_and_down(
    heroku: HerokuCli, app: str, embedding: Embedding
) -> None:
    name = heroku("addons:info", "EMBEDDING", "--app", app).stdout.split()[1]
    changed = heroku("addons:upgrade", "heroku-inference:dedicated", "--app", app).seen
    expected = "from heroku-inference:standard to heroku-inference:dedicated... done, ~$2.940/hour"
    assert f"Changing {name} on {app} {expected}" in changed
    assert "heroku-inference:dedicated" in heroku("addons:info", name).seen
    heroku("addons:downgrade", name, "cohere-embed-multilingual")
    config = heroku.config(app)
    assert config["EMBEDDING_MODEL_ID"] == "cohere-embed-multilingual"
    assert config["EMBEDDING_KEY"] == embedding.key
    assert f"Change plan of {name}" in heroku("releases", "--app", app).seen


def test_a_plan_that_there_is_not_is_refused_with_those_there_are(
    heroku: HerokuCli, app: str, embedding: Embedding
) -> None:
    refused = heroku.try_("addons:upgrade", "heroku-inference:gigantic", "--app", app)
    assert refused.status != 0
    assert "Couldn't find either the add-on service or the add-on plan" in refused.seen
    assert "heroku-inference:dedicated" in refused.seen


def test_what_an_addon_used_is_shown_by_its_meters(
    heroku: HerokuCli, app: str, embedding: Embedding
) -> None:
    name = heroku("addons:info", "EMBEDDING", "--app", app).stdout.split()[1]
    assert f"No usage found for app {app}" in heroku("usage:addons", "--app", app).seen
    status, _, body = curl(
        f"{embedding.url}/v1/embeddings",
        "--header", f"Authorization: Bearer {embedding.key}",
        "--header", "Content-Type: application/json",
        "--data", json.dumps({"model": embedding.model_id, "input": ["one", "two"]}),
    )  # fmt: skip
    assert status == 200
    tokens = body["usage"]["prompt_tokens"]
    for words in (("--app", app), ("--team", "dev@example.com")):
        seen = heroku("usage:addons", *words).seen
        assert f"Usage for {app}" in seen
        for meter, quantity in (("requests", 1), ("inputs", 2), ("input tokens", tokens)):
            assert f"{name} {meter} {quantity}" in seen


def test_config_vars_are_set_and_shown(heroku: HerokuCli, app: str) -> None:
    assert "GREETING" in heroku("config:set", "GREETING=good morning", "--app", app).seen
    assert "GREETING: good morning" in heroku("config", "--app", app).seen
    assert heroku("config", "-s", "--app", app).stdout.strip() == "GREETING='good morning'"
    assert heroku("config:get", "GREETING", "--app", app).stdout.strip() == "good morning"


def test_a_wrong_key_is_refused(heroku: HerokuCli) -> None:
    heroku.env["HEROKU_API_KEY"], right = "HRKU-wrong", heroku.env["HEROKU_API_KEY"]
    try:
        refused = heroku.try_("auth:whoami")
    finally:
        heroku.env["HEROKU_API_KEY"] = right
    assert refused.status != 0
