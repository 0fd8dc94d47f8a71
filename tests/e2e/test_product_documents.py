"""Every example of the product documents, run as printed there: product_documents/.

Each file is copied from its document. Only embeddings-reference-request.sh prints a host and a
placeholder for the key; those two are replaced. The documents' image inputs are not served.
"""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli import HerokuCli, curl
from tests.e2e.conftest import Embedding

DOCUMENTS = Path(__file__).parent / "product_documents"
MULTILINGUAL, MULTILINGUAL_DIMENSIONS = "cohere-embed-multilingual", 1024
V4, V4_DIMENSIONS = "cohere-embed-v4", 1536


def example(name: str, replacements: dict[str, str] | None = None) -> str:
    text = (DOCUMENTS / name).read_text()
    for printed, ours in (replacements or {}).items():
        assert printed in text
        text = text.replace(printed, ours)
    return text


def run(heroku: HerokuCli, app: str, text: str) -> dict[str, Any]:
    """What an example's call of curl prints, when it is pasted into a shell."""
    answer = heroku.shell(f"export APP_NAME={app}", text)
    body: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return body


def lengths(body: dict[str, Any]) -> list[int]:
    """Of the vectors of an answer, which must be as the documents say."""
    assert body["object"] == "list"
    assert [item["object"] for item in body["data"]] == ["embedding"] * len(body["data"])
    assert [item["index"] for item in body["data"]] == list(range(len(body["data"])))
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
    return [len(item["embedding"]) for item in body["data"]]


@pytest.fixture(scope="module")
def pilot_app(heroku: HerokuCli) -> str:
    """An app with a model resource that has the alias EMBEDDING, as the documents assume."""
    name = f"pilot-{secrets.token_hex(4)}"
    heroku("apps:create", name)
    heroku("addons:create", f"heroku-inference:{MULTILINGUAL}", "--app", name, "--as", "EMBEDDING")
    return name


@pytest.fixture(scope="module")
def pilot(heroku: HerokuCli, pilot_app: str) -> Embedding:
    config = heroku.config(pilot_app)
    return Embedding(
        url=config["EMBEDDING_URL"],
        key=config["EMBEDDING_KEY"],
        model_id=config["EMBEDDING_MODEL_ID"],
    )


def test_cohere_embed_v4_is_provisioned_and_called(heroku: HerokuCli, app: str) -> None:
    body = run(heroku, app, example("cohere-embed-v4.sh"))
    assert body["model"] == V4
    assert lengths(body) == [V4_DIMENSIONS] * 2


def test_the_pilots_example_is_answered_by_the_plans_model(
    heroku: HerokuCli, pilot_app: str
) -> None:
    body = run(heroku, pilot_app, example("embeddings-pilot.sh"))
    assert body["model"] == MULTILINGUAL
    assert lengths(body) == [MULTILINGUAL_DIMENSIONS]


def test_the_references_example_is_answered(heroku: HerokuCli, pilot_app: str) -> None:
    body = run(heroku, pilot_app, example("embeddings-reference.sh"))
    assert body["model"] == MULTILINGUAL
    assert lengths(body) == [MULTILINGUAL_DIMENSIONS] * 2


def test_the_references_request_is_answered_at_our_host(
    heroku: HerokuCli, pilot_app: str, pilot: Embedding
) -> None:
    replacements = {"https://us.inference.heroku.com": pilot.url, "<token>": pilot.key}
    text = example("embeddings-reference-request.sh", replacements)
    assert lengths(run(heroku, pilot_app, text)) == [MULTILINGUAL_DIMENSIONS] * 2


# Every value that the documents list, and what an answer to it holds.
DOCUMENTED: list[tuple[dict[str, object], type]] = [
    ({"input_type": "search_document"}, list),
    ({"input_type": "search_query"}, list),
    ({"input_type": "classification"}, list),
    ({"input_type": "clustering"}, list),
    ({"encoding_format": "raw"}, list),
    ({"encoding_format": "base64"}, str),
    ({"embedding_type": "float"}, list),
    ({"embedding_type": "int8"}, list),
    ({"embedding_type": "uint8"}, list),
    ({"embedding_type": "binary"}, list),
    ({"embedding_type": "ubinary"}, list),
    ({"allow_ignored_params": True, "temperature": 0.5}, list),
]


@pytest.mark.parametrize(("parameters", "kind"), DOCUMENTED, ids=[str(p) for p, _ in DOCUMENTED])
def test_every_documented_value_is_accepted(
    parameters: dict[str, object], kind: type, standard: Embedding
) -> None:
    body = {"model": "all-minilm-l6-v2", "input": ["example string 1", "example string 2"]}
    status, _, answer = curl(
        *(f"{standard.url}/v1/embeddings", "--header", f"Authorization: Bearer {standard.key}"),
        *("--data", json.dumps(body | parameters)),
    )
    assert status == 200, answer
    assert [type(item["embedding"]) for item in answer["data"]] == [kind] * 2


@pytest.fixture(scope="module")
def standard(heroku: HerokuCli, pilot_app: str) -> Embedding:
    """An attachment of the standard plan, beside the pilot's."""
    heroku("addons:create", "heroku-inference:standard", "--app", pilot_app, "--as", "STANDARD")
    config = heroku.config(pilot_app)
    return Embedding(
        url=config["STANDARD_URL"],
        key=config["STANDARD_KEY"],
        model_id=config["STANDARD_MODEL_ID"],
    )


def test_the_ai_plugin_calls_a_model(annexed: HerokuCli, pilot_app: str) -> None:
    """The first way to call one that the documents name."""
    call = ["ai:models:call", "EMBEDDING", "--app", pilot_app, "--prompt", "Hello"]
    as_json, printed = annexed.each([*call, "--json"], call)
    assert lengths(json.loads(as_json.stdout)) == [MULTILINGUAL_DIMENSIONS]
    assert len([float(number) for number in printed.stdout.split(",")]) == MULTILINGUAL_DIMENSIONS
