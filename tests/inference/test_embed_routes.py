"""Cohere's and SageMaker's routes with a real worker: one computation, whatever the dialect."""

import httpx
import numpy as np
import pytest
from pytest_django import Settings

from billing.models import UsageEvent
from inference.database import run_in_database_thread
from tests.inference.conftest import MODEL_ID, Attach

pytestmark = pytest.mark.usefixtures("worker")

TEXTS = ["a cat", "a kitten", "tax law"]
BODY = {"texts": TEXTS, "input_type": "search_document"}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def signed(key: str) -> dict[str, str]:
    return {
        "authorization": f"AWS4-HMAC-SHA256 Credential={key}/20261121/us-east-1/sagemaker/"
        "aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=0123abcd"
    }


async def ledger() -> list[UsageEvent]:
    return await run_in_database_thread(lambda: list(UsageEvent.objects.order_by("stored_at")))


async def test_the_same_vectors_in_every_dialect_each_metered_once(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    headers = bearer(attachment.key)
    openai = await client.post(
        "/v1/embeddings", json={"model": MODEL_ID, "input": TEXTS}, headers=headers
    )
    expected = np.array([item["embedding"] for item in openai.json()["data"]])
    v2 = await client.post("/v2/embed", json={**BODY, "model": MODEL_ID}, headers=headers)
    v1 = await client.post("/v1/embed", json={"texts": TEXTS}, headers=headers)
    container = await client.post("/invocations", json=BODY, headers=headers)
    runtime = await client.post(
        f"/endpoints/{MODEL_ID}/invocations", json=BODY, headers=signed(attachment.key)
    )
    answers = [v2, v1, container, runtime]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200]
    by_type = [answer.json()["embeddings"]["float"] for answer in (v2, container, runtime)]
    for rows in (*by_type, v1.json()["embeddings"]):
        assert np.allclose(rows, expected, atol=1e-5)
    tokens = openai.json()["usage"]["total_tokens"]
    assert v2.json()["meta"]["billed_units"] == {"input_tokens": tokens}
    assert runtime.headers["x-amzn-bedrock-input-token-count"] == str(tokens)
    events = await ledger()
    assert [event.tokens for event in events] == [tokens] * 5
    assert [str(event.id) for event in events[1:]] == [
        answer.headers["x-request-id"] for answer in answers
    ]
    assert v2.json()["id"] == v2.headers["x-request-id"]


async def test_a_cut_text_is_named_in_meta(client: httpx.AsyncClient, attach: Attach) -> None:
    body = {**BODY, "model": MODEL_ID, "texts": ["short", "one two three four"], "max_tokens": 4}
    response = await client.post("/v2/embed", json=body, headers=bearer((await attach()).key))
    assert response.headers["x-truncated-inputs"] == "1"
    assert response.json()["meta"]["warnings"] == [
        "texts[1] has 6 tokens and was cut at its end to 4"
    ]
    assert response.json()["meta"]["billed_units"] == {"input_tokens": 3 + 4}


async def test_types_and_dimensions_come_from_one_computation(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    body = {
        **BODY,
        "model": MODEL_ID,
        "embedding_types": ["float", "ubinary", "binary"],
        "output_dimension": 128,
        "allow_untrained_dimensions": True,
    }
    response = await client.post("/v2/embed", json=body, headers=bearer((await attach()).key))
    rows = response.json()["embeddings"]
    floats = np.array(rows["float"])
    assert floats.shape == (3, 128)
    assert np.allclose(np.linalg.norm(floats, axis=1), 1, atol=1e-5)
    assert np.array_equal(np.packbits(floats > 0, axis=1), rows["ubinary"])
    assert np.array_equal(np.array(rows["ubinary"]) - 128, rows["binary"])
    assert len(await ledger()) == 1


async def test_a_container_accounts_unsigned_calls_to_its_own_key(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    attachment = await attach()
    settings.SAGEMAKER_KEY = attachment.key
    assert (await client.get("/ping")).status_code == 200
    response = await client.post("/invocations", json=BODY)
    assert response.status_code == 200
    (event,) = await ledger()
    assert event.attachment_id == attachment.attachment_id


async def test_a_ping_without_a_key_asks_for_any_model(client: httpx.AsyncClient) -> None:
    response = await client.get("/ping")
    assert (response.status_code, response.content) == (200, b"")
