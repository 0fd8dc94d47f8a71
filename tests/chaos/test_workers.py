"""Workers that are killed, and tenants that flood: what is answered, billed and how late."""

import asyncio
import signal
import time

import httpx
from django.conf import settings

from billing.models import Plan, UsageEvent
from inference.database import run_in_database_thread
from tests.inference.conftest import MODEL_ID, Attach, StartWorker


async def embed(client: httpx.AsyncClient, key: str, texts: list[str]) -> httpx.Response:
    body = {"model": MODEL_ID, "input": texts, "encoding_format": "base64"}
    headers = {"authorization": f"Bearer {key}"}
    return await client.post("/v1/embeddings", json=body, headers=headers, timeout=60)


async def events() -> list[UsageEvent]:
    return await run_in_database_thread(lambda: list(UsageEvent.objects.all()))


async def test_requests_survive_the_death_of_one_of_two_workers(
    client: httpx.AsyncClient, attach: Attach, start_worker: StartWorker
) -> None:
    """Killed at work, without a word: what it held is computed by the other, and billed once."""
    victim, _ = start_worker(), start_worker()
    key = (await attach()).key
    text = "word " * 200
    requests = [asyncio.create_task(embed(client, key, [text] * 8)) for _ in range(12)]
    await asyncio.sleep(0.7)
    victim.kill()
    answers = await asyncio.gather(*requests)
    assert [answer.status_code for answer in answers] == [200] * 12
    assert len(await events()) == 12


async def test_a_worker_that_stops_at_work_loses_nothing(
    client: httpx.AsyncClient, attach: Attach, start_worker: StartWorker
) -> None:
    leaving, _ = start_worker(), start_worker()
    key = (await attach()).key
    requests = [asyncio.create_task(embed(client, key, ["word " * 200] * 8)) for _ in range(12)]
    await asyncio.sleep(0.7)
    leaving.send_signal(signal.SIGTERM)
    answers = await asyncio.gather(*requests)
    assert [answer.status_code for answer in answers] == [200] * 12
    assert await asyncio.to_thread(leaving.wait, 25) == 0


async def test_a_query_does_not_wait_for_the_bulk_of_another(
    client: httpx.AsyncClient, attach: Attach, start_worker: StartWorker
) -> None:
    start_worker()
    bulk_key, query_key = (await attach()).key, (await attach()).key
    await embed(client, query_key, ["warm"])
    flood = [asyncio.create_task(embed(client, bulk_key, ["word " * 250] * 24)) for _ in range(6)]
    await asyncio.sleep(1.0)
    started = time.monotonic()
    assert (await embed(client, query_key, ["how do I attach it?"])).status_code == 200
    query_s = time.monotonic() - started
    # On a slow machine some of it is refused at once; the rest is still being computed.
    assert not all(task.done() for task in flood)
    answers = await asyncio.gather(*flood)
    bulk_s = time.monotonic() - started
    assert {answer.status_code for answer in answers} <= {200, 429, 503}
    assert query_s < bulk_s / 3, (query_s, bulk_s)


async def test_a_resource_with_workers_of_its_own_is_served_by_them_alone(
    client: httpx.AsyncClient, attach: Attach, start_worker: StartWorker
) -> None:
    start_worker()
    attachment = await attach()
    assert (await embed(client, attachment.key, ["shared"])).status_code == 200
    await run_in_database_thread(Plan.objects.update, worker_pool="resource")
    await asyncio.sleep(settings.KEY_CACHE_S + 0.1)
    refused = await embed(client, attachment.key, ["dedicated"])
    assert refused.status_code == 503
    assert "no worker is running" in refused.text
    start_worker(pool=str(attachment.resource_id))
    assert (await embed(client, attachment.key, ["dedicated"])).status_code == 200
    await run_in_database_thread(Plan.objects.update, worker_pool="shared")
