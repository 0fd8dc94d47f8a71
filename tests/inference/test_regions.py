"""A resource's region picks its workers, and its data stays there."""

import asyncio

import httpx
import pytest
from django.core.management import call_command
from pytest_django import Settings
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from billing.plans import SHARED_POOL
from inference import presence
from inference.catalogue import queue_name
from inference.pools import pool_name
from tests.inference.conftest import MODEL_ID, Attach
from tests.inference.test_refusals import assert_nothing_happened, error_of, post

REPORT = presence.Report(token_budget=1_000, tokens_per_s=1_000.0)
QUEUES = {region: queue_name(MODEL_ID, pool_name(region, SHARED_POOL)) for region in ("us", "eu")}


@pytest.fixture(autouse=True)
def _impatient(settings: Settings) -> None:
    settings.REQUEST_TIMEOUT_S = 0.3
    settings.INFERENCE_URL = "https://us.annex.example"
    settings.INFERENCE_URL_EU = "https://eu.annex.example"


@pytest.mark.parametrize(("region", "other"), [("eu", "us"), ("us", "eu")])
async def test_requests_wait_for_workers_of_their_region_only(
    client: httpx.AsyncClient,
    attach: Attach,
    redis: Redis,
    redis_client: SyncRedis,
    region: str,
    other: str,
) -> None:
    key = (await attach(region)).key
    presence.announce(redis_client, QUEUES[other], "theirs", REPORT)
    refused = await post(client, key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert "no worker is running" in refused.text

    presence.announce(redis_client, QUEUES[region], "ours", REPORT)
    await asyncio.wait_for(post(client, key), 5)
    assert await redis.llen(QUEUES[region]) == 1
    assert await redis.llen(QUEUES[other]) == 0


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/v2/embed", "/v1/models", "/v1/tokenize", "/v1/usage"]
)
async def test_a_key_at_the_other_regions_web_process_is_told_the_right_url(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, settings: Settings, path: str
) -> None:
    settings.PROCESS_REGION = "us"
    key = (await attach("eu")).key
    headers = {"authorization": f"Bearer {key}"}
    method = "GET" if path in ("/v1/models", "/v1/usage") else "POST"
    response = await client.request(method, path, content=b"never read", headers=headers)
    assert response.status_code == 421
    assert "https://eu.annex.example" in response.text
    assert key not in response.text
    await assert_nothing_happened(redis)

    settings.PROCESS_REGION = "eu"
    assert (await client.get("/v1/models", headers=headers)).status_code == 200


async def test_a_wrong_region_has_a_code_of_its_own(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    settings.PROCESS_REGION = "eu"
    response = await post(client, (await attach("us")).key)
    assert error_of(response)["code"] == "wrong_region"
    assert "region us" in error_of(response)["message"]
    assert "https://us.annex.example" in error_of(response)["message"]


async def test_boto3_is_told_too(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    settings.PROCESS_REGION = "us"
    headers = {"authorization": f"Bearer {(await attach('eu')).key}"}
    response = await client.post(f"/endpoints/{MODEL_ID}/invocations", json={}, headers=headers)
    assert response.headers["x-amzn-errortype"] == "ValidationError"
    assert "https://eu.annex.example" in response.json()["message"]


async def test_health_counts_a_worker_of_two_regions_once_and_others_not(
    client: httpx.AsyncClient, redis_client: SyncRedis, settings: Settings, db: None
) -> None:
    for queue in QUEUES.values():
        presence.announce(redis_client, queue, "both", REPORT)
    presence.announce(redis_client, QUEUES["eu"], "theirs", REPORT)

    async def workers() -> int:
        health = (await client.get("/healthz")).json()
        return int(health["models"][MODEL_ID]["workers"])

    assert await workers() == 2
    settings.PROCESS_REGION = "us"
    assert await workers() == 1


@pytest.mark.parametrize(
    ("process_region", "regions"), [("eu", {"eu"}), ("us", {"us"}), ("", {"us", "eu"})]
)
def test_a_worker_consumes_the_queues_of_its_region(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, process_region: str, regions: set[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("inference.management.commands.serve_models._work", started.append)
    monkeypatch.setattr("os.nice", lambda _: 0)
    monkeypatch.setattr("gc.disable", lambda: None)
    monkeypatch.setattr("sys.setswitchinterval", lambda _: None)
    settings.PROCESS_REGION = process_region
    with pytest.raises(SystemExit):
        call_command("serve_models", MODEL_ID, pool="gold")
    (consumed,) = started
    assert set(consumed) == {f"embed.{region}.gold.{MODEL_ID}" for region in regions}


async def test_the_option_model_is_the_add_ons_model(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    async def model_id(options: dict[str, str]) -> str:
        attachment = await attach(options=options)
        headers = {"authorization": f"Bearer {attachment.key}"}
        answer = await client.get(f"/models/{attachment.resource_id}", headers=headers)
        return str(answer.json()["model_id"])

    assert await model_id({}) == MODEL_ID
    assert await model_id({"model": "bge-m3"}) == "bge-m3"
