"""The embeddings API, called by curl and the OpenAI SDK with an attachment's config vars."""

import time
from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.e2e.annex import Annex
from tests.e2e.cli import HerokuCli, curl
from tests.e2e.conftest import Embedding

DIMENSIONS = 384
# A detached attachment's key must be refused within two seconds, in every process.
REVOKED_WITHIN_S = 2.0
# A worker that says nothing for four seconds counts as gone; a busy runner gets some more.
MISSED_WITHIN_S = 15.0
KNOWN_S = 2.0  # that of inference/dispatch.py


@pytest.fixture
def openai(embedding: Embedding) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{embedding.url}/v1", api_key=embedding.key, max_retries=0) as client:
        yield client


def call(url: str, key: str) -> tuple[int, dict[str, str], dict[str, object]]:
    """curl as the product documents it: JSON, sent with curl's own Content-Type of a form."""
    return curl(
        *(f"{url}/v1/embeddings", "--header", f"Authorization: Bearer {key}"),
        *("--data", '{"model": "all-minilm-l6-v2", "input": "Hello"}'),
    )


def test_curl_gets_an_embedding(embedding: Embedding) -> None:
    status, headers, body = call(embedding.url, embedding.key)
    assert status == 200
    assert headers["content-type"].startswith("application/json")
    assert len(body["data"][0]["embedding"]) == DIMENSIONS  # type: ignore[index]


def test_the_openai_sdk_gets_the_same_floats_as_base64_and_as_numbers(
    openai: OpenAI, embedding: Embedding
) -> None:
    texts = ["The quick brown fox", "jumps over the lazy dog"]
    packed = openai.embeddings.create(model=embedding.model_id, input=texts)
    numbers = openai.embeddings.create(
        model=embedding.model_id, input=texts, encoding_format="float"
    )
    for one, other in zip(packed.data, numbers.data, strict=True):
        assert len(one.embedding) == DIMENSIONS
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert packed.usage == numbers.usage
    assert packed.usage.prompt_tokens > 0


def test_similar_texts_are_near(openai: OpenAI, embedding: Embedding) -> None:
    texts = ["A cat sits on the mat", "A kitten lies on the rug", "Interest rates were raised"]
    answer = openai.embeddings.create(model=embedding.model_id, input=texts)
    cat, kitten, rates = (item.embedding for item in answer.data)
    near = sum(a * b for a, b in zip(cat, kitten, strict=True))
    far = sum(a * b for a, b in zip(cat, rates, strict=True))
    assert near > far + 0.2


def test_a_wrong_key_is_refused(embedding: Embedding) -> None:
    status, _, _ = call(embedding.url, "wrong")
    assert status == 401


def test_a_detached_attachments_key_is_refused_within_two_seconds(
    heroku: HerokuCli, app: str, embedding: Embedding
) -> None:
    name = heroku("addons:info", "EMBEDDING", "--app", app).stdout.split()[1]
    heroku("addons:attach", name, "--app", app, "--as", "SEARCH")
    key = heroku.config(app)["SEARCH_KEY"]
    assert call(embedding.url, key)[0] == 200
    heroku("addons:detach", "SEARCH", "--app", app)
    deadline = time.monotonic() + REVOKED_WITHIN_S
    while call(embedding.url, key)[0] != 401:
        assert time.monotonic() < deadline, "the key of a detached attachment still works"
    assert call(embedding.url, embedding.key)[0] == 200


def test_a_missing_worker_is_said_at_once_and_with_a_time_to_come_back(
    annex: Annex, embedding: Embedding
) -> None:
    worker = annex.find_process("serve_models")
    worker.suspend()
    try:
        deadline = time.monotonic() + MISSED_WITHIN_S
        while curl(f"{annex.url}/healthz")[2]["models"]["all-minilm-l6-v2"]["workers"]:
            assert time.monotonic() < deadline, "a worker that stopped still counts"
            time.sleep(0.2)
        time.sleep(KNOWN_S + 0.5)  # as long as a web process believes what it knows of workers
        began_at = time.monotonic()
        status, headers, _ = call(embedding.url, embedding.key)
        assert status == 503
        assert int(headers["retry-after"]) > 0
        assert time.monotonic() - began_at < 2.0
    finally:
        worker.resume()
    deadline = time.monotonic() + MISSED_WITHIN_S
    while call(embedding.url, embedding.key)[0] != 200:
        assert time.monotonic() < deadline, "the worker did not come back"
        time.sleep(0.2)
