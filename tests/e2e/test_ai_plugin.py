"""The CLI's AI plugin by `bin/annex`: it insists on HTTPS, port 443 and a host's bare name."""

import json
import secrets
from pathlib import Path

import pytest

from tests.e2e.annex import ROOT, Annex
from tests.e2e.cli import HerokuCli

MODEL, DIMENSIONS = "all-minilm-l6-v2", 384


@pytest.fixture(scope="module")
def ai_app(annexed: HerokuCli) -> str:
    """An app with a model resource that has the alias EMBEDDING."""
    name = f"pilot-{secrets.token_hex(4)}"
    annexed("apps:create", name)
    created = annexed("ai:models:create", MODEL, "--app", name, "--as", "EMBEDDING").seen
    assert f"Creating heroku-inference:{MODEL} on {name}... metered" in created
    assert "Resource alias: EMBEDDING" in created
    return name


def test_the_models_are_listed_and_a_resource_is_shown(annexed: HerokuCli, ai_app: str) -> None:
    listed, by_alias, of_app = annexed.each(
        ["ai:models:list"],
        ["ai:models:info", "EMBEDDING", "--app", ai_app],
        ["ai:models:info", "--app", ai_app],
    )
    for model in (MODEL, "cohere-embed-multilingual", "cohere-embed-v4"):
        assert f"{model} text-to-embedding us, eu" in listed.seen
    for info in (by_alias, of_app):
        assert info.seen.startswith(f"=== {MODEL} Avg Performance: ")
        assert f"Base Model ID: {MODEL} Model Alias: EMBEDDING Model Resource ID: " in info.seen
        assert info.seen.endswith("Ready: Yes")


def test_a_model_is_called_by_every_option(annexed: HerokuCli, ai_app: str, tmp_path: Path) -> None:
    options, output = tmp_path / "options.json", tmp_path / "vectors.json"
    options.write_text('{"input": ["one", "two"], "input_type": "clustering"}')
    call = ["ai:models:call", "EMBEDDING", "--app", ai_app]
    printed, as_json, by_opts, _ = annexed.each(
        [*call, "--prompt", "Hello"],
        [*call, "-p", "Hello", "--json"],
        [*call, "-p", "Hello", "--json", "--opts", '{"embedding_type": "int8"}'],
        [*call, "--optfile", str(options), "--json", "--output", str(output)],
    )
    numbers = [float(number) for number in printed.stdout.split(",")]
    answer = json.loads(as_json.stdout)
    assert answer["model"] == MODEL
    assert answer["data"][0]["embedding"] == pytest.approx(numbers)
    assert len(numbers) == DIMENSIONS
    assert all(isinstance(n, int) for n in json.loads(by_opts.stdout)["data"][0]["embedding"])
    assert [len(item["embedding"]) for item in json.loads(output.read_text())["data"]] == [
        DIMENSIONS
    ] * 2


def test_a_refusal_is_shown_in_words(annexed: HerokuCli, ai_app: str) -> None:
    call = ("ai:models:call", "EMBEDDING", "--app", ai_app, "--prompt", "Hello")
    refused = annexed.try_(*call, "--opts", '{"input_type": "poem"}')
    assert refused.status == 2
    assert "Error: 'input_type' must be one of search_document, " in refused.seen
    unknown = annexed.try_("ai:models:create", "gigantic", "--app", ai_app)
    assert unknown.status != 0
    assert "gigantic is an invalid model name." in unknown.seen


def test_a_resource_is_attached_detached_and_destroyed(
    annexed: HerokuCli, ai_app: str, app: str
) -> None:
    apps = ("--source-app", ai_app, "--target-app", app)
    attached = annexed("ai:models:attach", "EMBEDDING", *apps, "--as", "SHARED").seen
    assert f"as SHARED to {app}... done" in attached
    assert f"Setting SHARED config vars and restarting {app}... done, v2" in attached
    called = annexed("ai:models:call", "SHARED", "--app", app, "--prompt", "Hello").stdout
    assert len(called.split(",")) == DIMENSIONS
    detached = annexed("ai:models:detach", "SHARED", "--app", app).seen
    assert f"from {app}... done" in detached
    destroy = ("ai:models:destroy", "EMBEDDING", "--app", ai_app, "--confirm", ai_app)
    destroyed = annexed(*destroy).seen
    assert destroyed.startswith("Destroying inference-")
    assert destroyed.endswith("... done")
    assert annexed.config(ai_app) == {}


def test_the_docs_are_offered_at_a_terminal(annexed: HerokuCli, annex: Annex) -> None:
    shown = annexed.in_terminal("ai:docs", answers=[("q to exit", "q")])
    assert f"Opening {annex.url}/ in your default browser… Press any key" in shown.seen


def test_a_shell_that_was_set_up_runs_the_plugin_too_and_other_programs_as_before(
    annexed: HerokuCli, annex: Annex, app: str
) -> None:
    answer = annexed.shell(
        f'eval "$({ROOT}/manage.py heroku_env)"',
        "heroku ai:models:list",
        'test -z "$HTTPS_PROXY$HTTP_PROXY$NODE_OPTIONS"',
        f"curl --silent --fail {annex.url}/healthz",
    )
    assert f"{MODEL} text-to-embedding" in answer.seen
