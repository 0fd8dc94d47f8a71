"""`POST /v1/tokenize`: a dry run that says what a request would cost, and costs nothing."""

from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from tokenizers import Tokenizer

from billing.models import Plan, UsageEvent
from inference.catalogue import get_model
from inference.database import run_in_database_thread
from tests.inference.conftest import MODEL_ID, Attach, Attachment


async def tokenize(
    client: httpx.AsyncClient, attachment: Attachment, **fields: Any
) -> httpx.Response:
    headers = {"authorization": f"Bearer {attachment.key}"}
    return await client.post("/v1/tokenize", json={"model": MODEL_ID, **fields}, headers=headers)


async def test_ids_and_counts_are_those_of_the_models_tokenizer(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    path = get_model(MODEL_ID).path
    assert path is not None
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    texts = ["hello world", "antidisestablishmentarianism!", "a"]
    response = await tokenize(client, await attach(), input=texts)
    answer = response.json()
    expected = [tokenizer.encode(text).ids for text in texts]
    assert [item["ids"] for item in answer["data"]] == expected
    assert [item["tokens"] for item in answer["data"]] == [len(ids) for ids in expected]
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    assert [item["cut_tokens"] for item in answer["data"]] == [0, 0, 0]
    assert answer["usage"]["total_tokens"] == sum(map(len, expected))
    assert all("kept_text" not in item for item in answer["data"])


@pytest.mark.parametrize(
    ("truncate", "kept"), [("end", "one two three"), ("start", "three four five")]
)
async def test_what_would_be_cut_is_said(
    client: httpx.AsyncClient, attach: Attach, truncate: str, kept: str
) -> None:
    response = await tokenize(
        client,
        await attach(),
        input=["a", "one two three four five"],
        truncate=truncate,
        max_tokens=5,
    )
    whole, cut = response.json()["data"]
    assert (whole["tokens"], whole["cut_tokens"]) == (3, 0)
    assert (cut["tokens"], cut["cut_tokens"], cut["kept_text"]) == (5, 2, kept)
    assert response.json()["usage"]["total_tokens"] == 8


async def test_the_price_is_that_of_the_plan(client: httpx.AsyncClient, attach: Attach) -> None:
    response = await tokenize(client, await attach(), input="hello world")
    assert response.json()["price"] == {
        "currency": "usd",
        "microunits_per_million_tokens": 10_000,
        "microunits": 0.04,
    }


async def test_a_dry_run_is_not_billed_and_takes_nothing_from_requests(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    attachment = await attach()
    response = await tokenize(client, attachment, input="hello")
    assert response.status_code == 200
    assert response.headers["x-ratelimit-remaining-requests"] == "499"
    assert "x-ratelimit-remaining-tokens" not in response.headers
    assert await run_in_database_thread(UsageEvent.objects.count) == 0
    (log,) = await redis.keys("limits:*log")
    assert MODEL_ID.encode() not in log


async def test_dry_runs_are_limited_by_themselves(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    await run_in_database_thread(Plan.objects.update, requests_per_minute=2, tokens_per_minute=1)
    statuses = [(await tokenize(client, attachment, input="a")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = await tokenize(client, attachment, input="a")
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(refused.headers["retry-after"]) <= 60


async def test_a_text_that_would_be_refused_is_refused(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    response = await tokenize(
        client, await attach(), input=["a", "b c d e"], truncate="none", max_tokens=4
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input[1]"
    assert "6 tokens, more than 4" in response.json()["error"]["message"]
    (log,) = await redis.keys("limits:*log") or [b"none"]
    assert await redis.zcard(log) == 0


async def test_parameters_of_embeddings_that_change_no_token_are_refused_by_name(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    response = await tokenize(client, await attach(), input="a", dimensions=256)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "dimensions"
