"""More than the workers compute: who waits too long is told at once, and when to come back."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from inference import lanes
from inference.dispatch import Dispatcher
from inference.lanes import Overloaded, TooMuchWaiting
from tests.inference.conftest import MODEL_ID, Attach
from tests.inference.test_failures import announce_silent_worker
from tests.inference.test_refusals import assert_nothing_happened, error_of, post


@pytest.mark.parametrize(
    ("refusal", "status", "words"),
    [
        (TooMuchWaiting, 429, "Too much of your own is waiting"),
        (Overloaded, 503, "All workers are busy"),
    ],
)
async def test_the_answer_says_whose_queue_it_is_and_when_to_come_back(
    client: httpx.AsyncClient,
    attach: Attach,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    refusal: type[Overloaded],
    status: int,
    words: str,
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise refusal(wait_s=33.3, retry_after_s=13.3)

    monkeypatch.setattr(Dispatcher, "encode", refuse)
    response = await post(client, (await attach()).key)
    assert response.status_code == status
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("14", "14000")
    assert error_of(response)["code"] == "overloaded"
    assert words in error_of(response)["message"]
    await assert_nothing_happened(redis)


async def test_a_request_behind_a_long_queue_is_refused_before_its_deadline(
    client: httpx.AsyncClient,
    attach: Attach,
    redis_client: SyncRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "WAIT_SHARE", 0.01)
    announce_silent_worker()  # which computes 1,000 tokens a second, it says
    key = (await attach()).key
    body = {"model": MODEL_ID, "input": ["word " * 100] * 10}
    waiting = [asyncio.create_task(post(client, key, body)) for _ in range(2)]
    await asyncio.sleep(0.3)
    started = time.monotonic()
    response = await post(client, key, body)
    assert time.monotonic() - started < 5
    assert response.status_code == 429
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
