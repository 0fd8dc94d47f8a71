"""`POST /v1/embeddings` with a real worker: what is answered, and what it leaves in the ledger."""

import base64
import subprocess

import httpx
import httpx2
import numpy as np
import pytest
from openai import AsyncOpenAI

from billing.models import Price, UsageEvent
from billing.plans import SHARED_POOL
from inference.asgi import InferenceApplication
from inference.database import run_in_database_thread
from tests.inference.conftest import MODEL_ID, Attach, Attachment
from tests.inference.real_texts import real_texts

pytestmark = pytest.mark.usefixtures("worker")


def headers(attachment: Attachment) -> dict[str, str]:
    return {"authorization": f"Bearer {attachment.key}"}


async def ledger() -> list[UsageEvent]:
    return await run_in_database_thread(lambda: list(UsageEvent.objects.order_by("stored_at")))


async def test_texts_become_unit_vectors_in_order(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    body = {"model": MODEL_ID, "input": ["a cat", "a kitten", "tax law"]}
    response = await client.post("/v1/embeddings", json=body, headers=headers(await attach()))
    assert response.status_code == 200
    answer = response.json()
    assert answer["object"] == "list"
    assert answer["model"] == MODEL_ID
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    cat, kitten, law = (np.array(item["embedding"]) for item in answer["data"])
    assert cat.shape == (384,)
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-5)
    assert cat @ kitten > 0.5 > cat @ law


async def test_an_answer_is_one_row_of_the_ledger_with_its_tokens(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    response = await client.post(
        "/v1/embeddings",
        json={"model": MODEL_ID, "input": ["hello world", "hi"]},
        headers=headers(attachment),
    )
    assert response.json()["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    (event,) = await ledger()
    assert (event.tokens, event.inputs) == (7, 2)
    assert str(event.id) == response.headers["x-request-id"]
    assert event.customer_id == attachment.resource_id
    price = await run_in_database_thread(Price.objects.get, id=event.price_id)
    assert event.cost_picounits == 7 * price.token_prices[MODEL_ID]
    assert event.attachment_id == attachment.attachment_id
    assert event.resource_id == attachment.resource_id
    assert (event.app_name, event.attachment_name) == ("shop", "EMBEDDING")
    assert event.plan_name == "heroku-inference:standard"
    assert response.headers["x-ratelimit-remaining-requests"] == "499"
    assert response.headers["x-ratelimit-remaining-tokens"] == "799993"


async def test_vectors_of_real_texts_agree_with_sentence_transformers_over_http(
    client: httpx.AsyncClient, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference.catalogue import get_model

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from sentence_transformers import SentenceTransformer

    texts = real_texts(210)
    reference = SentenceTransformer(str(get_model(MODEL_ID).path), device="cpu").encode(texts)
    attachment = await attach()
    rows: list[list[float]] = []
    for start in range(0, len(texts), 70):
        body = {"model": MODEL_ID, "input": texts[start : start + 70]}
        response = await client.post("/v1/embeddings", json=body, headers=headers(attachment))
        rows += [item["embedding"] for item in response.json()["data"]]
    vectors = np.array(rows)
    cosines = (vectors * reference).sum(1) / np.linalg.norm(reference, axis=1)
    assert cosines.shape == (210,)
    assert cosines.min() >= 0.9999


async def test_base64_decodes_to_the_floats_of_raw(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    answers = []
    for encoding_format in ("raw", "float", "base64"):
        body = {"model": MODEL_ID, "input": "hello", "encoding_format": encoding_format}
        response = await client.post("/v1/embeddings", json=body, headers=headers(attachment))
        answers.append(response.json()["data"][0]["embedding"])
    raw, floats, packed = answers
    assert raw == floats
    decoded = np.frombuffer(base64.b64decode(packed), dtype="<f4")
    assert np.array_equal(np.array(raw, dtype=np.float32), decoded)


async def test_the_openai_client_gets_vectors(
    application: InferenceApplication, attach: Attach
) -> None:
    key = (await attach()).key
    http_client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=application))
    openai = AsyncOpenAI(api_key=key, base_url="http://annex/v1", http_client=http_client)
    default = await openai.embeddings.create(model=MODEL_ID, input=["hello", "world"])
    floats = await openai.embeddings.create(
        model=MODEL_ID, input=["hello", "world"], encoding_format="float"
    )
    assert [len(item.embedding) for item in default.data] == [384, 384]
    assert np.allclose(default.data[1].embedding, floats.data[1].embedding, atol=1e-6)
    assert MODEL_ID in [model.id async for model in openai.models.list()]
    await openai.close()


async def test_json_posted_as_a_form_is_read_as_json(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    response = await client.post(
        "/v1/embeddings",
        content=f'{{"model": "{MODEL_ID}", "input": "hello"}}',
        headers={**headers(await attach()), "content-type": "application/x-www-form-urlencoded"},
    )
    assert response.status_code == 200


async def test_a_text_over_the_context_is_cut_and_the_answer_says_so(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    body = {"model": MODEL_ID, "input": ["short", "word " * 400]}
    response = await client.post("/v1/embeddings", json=body, headers=headers(await attach()))
    assert response.headers["x-truncated-inputs"] == "1"
    assert response.json()["usage"]["total_tokens"] == 3 + 256


async def test_requests_that_wait_together_each_get_their_own_vectors(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    import asyncio

    attachment = await attach()
    texts = real_texts(30)

    async def embed(text: str) -> list[float]:
        body = {"model": MODEL_ID, "input": text}
        response = await client.post("/v1/embeddings", json=body, headers=headers(attachment))
        vector: list[float] = response.json()["data"][0]["embedding"]
        return vector

    together = await asyncio.gather(*[embed(text) for text in texts])
    alone = [await embed(text) for text in texts[:5]]
    assert np.allclose(together[:5], alone, atol=1e-5)
    assert len(await ledger()) == 35


async def test_a_worker_survives_a_task_that_is_none(
    worker: "subprocess.Popen[bytes]", client: httpx.AsyncClient, attach: Attach
) -> None:
    from config.celery import app as celery_app
    from inference import wire
    from inference.catalogue import queue_name
    from inference.pools import pool_name

    texts = {"no lengths": (b"\xff" * 8, b"\x02"), "no tokens": (b"\xff" * 4, b"\x01\0\0\0")}
    broken = [
        wire.EncodeTask(
            model_id=MODEL_ID,
            reply_to="replies:nobody",
            parts=[wire.Part(1, "a", 9e12, 1, ids, lengths)],
        )
        for ids, lengths in texts.values()
    ]
    for payload in (b"garbage", *map(wire.encode, broken)):
        celery_app.send_task(
            wire.ENCODE_TASK,
            args=[payload],
            queue=queue_name(MODEL_ID, pool_name("us", SHARED_POOL)),
            serializer=wire.SERIALIZER,
        )
    body = {"model": MODEL_ID, "input": "still there"}
    response = await client.post("/v1/embeddings", json=body, headers=headers(await attach()))
    assert response.status_code == 200
    assert worker.poll() is None
