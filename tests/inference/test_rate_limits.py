"""Limits and spend caps as clients see them: headers, refusals, overrides, shadow mode."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pytest_django import Settings
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from billing.metering import Ledger, UsageNotRecorded
from billing.models import Budget, Customer, LimitOverride, Plan, Price, UsageEvent
from billing.periods import month_of
from billing.rate_limits import Limiter, Limits
from billing.spend import Spend
from inference.asgi import InferenceApplication
from inference.database import run_in_database_thread
from tests.billing.limiting import new_share
from tests.inference.conftest import MODEL_ID, Attach, Attachment
from tests.inference.test_failures import vectors_come
from tests.inference.test_refusals import error_of

__all__ = ["vectors_come"]

pytestmark = pytest.mark.usefixtures("vectors_come")

TOKEN_PICOUNITS = 10_000  # plans.toml
COHERE = {"model": MODEL_ID, "input_type": "search_document", "texts": ["hello"]}
SAGEMAKER = {"input_type": "search_document", "texts": ["hello"]}
BODIES = {
    "/v1/embeddings": {"model": MODEL_ID, "input": "hello"},
    "/v1/embed": COHERE,
    "/v2/embed": {**COHERE, "embedding_types": ["float"]},
    "/invocations": SAGEMAKER,
    f"/endpoints/{MODEL_ID}/invocations": SAGEMAKER,
}
HELLO_TOKENS = 3


async def post(
    client: httpx.AsyncClient, attachment: Attachment, path: str = "/v1/embeddings", **headers: str
) -> httpx.Response:
    headers = {"authorization": f"Bearer {attachment.key}", **headers}
    return await client.post(path, json=BODIES[path], headers=headers)


async def override(attachment: Attachment, **stated: Any) -> None:
    await run_in_database_thread(
        lambda: LimitOverride.objects.update_or_create(
            scope="attachment", scope_id=attachment.attachment_id, defaults=stated
        )
    )


async def set_budget(attachment: Attachment, limit_microunits: int) -> None:
    await run_in_database_thread(
        lambda: Budget.objects.update_or_create(
            customer_id=attachment.resource_id,
            scope="app",
            scope_id="shop",
            defaults={"limit_microunits": limit_microunits, "is_hard": True},
        )
    )


@pytest.fixture
def limiter(application: InferenceApplication) -> Limiter:
    return application._limiter


async def read_spend(limiter: Limiter, attachment: Attachment) -> Spend:
    spend = await limiter.read_spend(attachment.resource_id)
    assert spend is not None
    return spend


async def test_an_answer_says_how_its_caller_stands(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    response = await post(client, await attach())
    headers = response.headers
    assert headers["x-ratelimit-limit-requests"] == "500"
    assert headers["x-ratelimit-limit-tokens"] == "800000"
    assert headers["x-ratelimit-remaining-requests"] == "499"
    assert headers["x-ratelimit-remaining-tokens"] == str(800_000 - HELLO_TOKENS)
    assert headers["x-ratelimit-reset-requests"] == headers["x-ratelimit-reset-tokens"] == "1m0s"
    assert abs(int(headers["x-ratelimit-reset"]) - (await redis.time())[0] - 60) <= 1
    assert "x-ratelimit-shadow" not in headers


async def test_the_time_of_reset_is_by_the_clock_of_redis(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This host's is an hour late."""
    import time

    attachment, true_time = await attach(), time.time
    await override(attachment, requests_per_minute=1)
    monkeypatch.setattr(time, "time", lambda: true_time() - 3_600)
    answers = [await post(client, attachment) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    for answer in answers:
        assert abs(int(answer.headers["x-ratelimit-reset"]) - true_time() - 60) <= 2
    assert int(answers[1].headers["retry-after"]) <= 60


async def test_an_override_holds_within_the_time_that_keys_are_remembered(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    settings.KEY_CACHE_S = 0.3
    attachment = await attach()
    assert (await post(client, attachment)).status_code == 200
    await override(attachment, requests_per_minute=2, tokens_per_minute=10)
    await asyncio.sleep(0.3)
    second, third = [await post(client, attachment) for _ in range(2)]
    assert (second.status_code, third.status_code) == (200, 429)
    assert second.headers["x-ratelimit-limit-tokens"] == "10"
    assert error_of(third)["type"] == "requests"
    await override(attachment, requests_per_minute=500, tokens_per_minute=7)
    await asyncio.sleep(0.3)
    refused = await post(client, attachment)
    assert error_of(refused)["type"] == "tokens"
    assert "7 tokens per minute, 6 used, 3 asked" in error_of(refused)["message"]
    await override(attachment, requests_per_minute=500, tokens_per_minute=2)
    await asyncio.sleep(0.3)
    assert error_of(await post(client, attachment))["code"] == "request_exceeds_limit"


async def test_too_many_at_once_are_a_429_that_says_so(
    client: httpx.AsyncClient, attach: Attach, limiter: Limiter
) -> None:
    attachment = await attach()
    await override(attachment, concurrent_requests=1)
    share = new_share(
        customer_id=attachment.resource_id,
        attachment_id=attachment.attachment_id,
        model_id=MODEL_ID,
    )
    await limiter.reserve(share, Limits(requests=1, tokens=1, concurrent=1))
    response = await post(client, attachment)
    assert response.status_code == 429
    assert "1 requests at once, 1 under way, 1 asked" in error_of(response)["message"]
    assert response.headers["retry-after"] == "1"
    assert response.headers["x-ratelimit-remaining-requests"] == "499"


async def test_a_limit_of_nothing_is_a_400_that_says_so(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    await override(attachment, requests_per_minute=0)
    response = await post(client, attachment)
    assert response.status_code == 400
    assert error_of(response)["code"] == "request_exceeds_limit"
    assert "limit of requests is 0" in error_of(response)["message"]


async def test_a_shadow_says_what_it_would_have_refused(
    client: httpx.AsyncClient, attach: Attach, caplog: pytest.LogCaptureFixture
) -> None:
    attachment = await attach()
    await override(attachment, requests_per_minute=1, tokens_per_minute=5, is_shadow=True)
    answers = [await post(client, attachment) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    shadows = [answer.headers.get("x-ratelimit-shadow") for answer in answers]
    assert shadows == [None, "requests"]
    assert "would refuse" in caplog.text


@pytest.mark.parametrize("path", BODIES)
async def test_a_reached_cap_is_a_402_that_names_it_in_every_dialect(
    client: httpx.AsyncClient, attach: Attach, path: str
) -> None:
    attachment = await attach()
    await set_budget(attachment, 0)
    response = await post(client, attachment, path)
    cost = f"0.{'0' * 7}3"
    said = f"the app shop allows 0 a month, 0 is spent, and this request costs {cost}. It resets at"
    assert said in str(response.json())
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["x-ratelimit-remaining-requests"] == "500"
    assert "retry-after" not in response.headers
    if "endpoints" in path:
        assert (response.status_code, response.json()["OriginalStatusCode"]) == (424, 402)
    else:
        assert response.status_code == 402
    if path == "/v1/embeddings":
        error = error_of(response)
        assert (error["type"], error["code"]) == ("insufficient_quota", "spend_cap_reached")


async def test_what_is_spent_is_what_the_ledger_has(
    client: httpx.AsyncClient, attach: Attach, limiter: Limiter
) -> None:
    attachment = await attach()
    await set_budget(attachment, 1)
    answers = [await post(client, attachment) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    costs = await run_in_database_thread(
        lambda: list(UsageEvent.objects.values_list("cost_picounits", flat=True))
    )
    assert costs == [HELLO_TOKENS * TOKEN_PICOUNITS] * 2
    spend = await read_spend(limiter, attachment)
    assert spend.picounits == {
        "account": sum(costs),
        "app:shop": sum(costs),
        f"attachment:{attachment.attachment_id}": sum(costs),
    }
    assert not spend.held
    event = await run_in_database_thread(UsageEvent.objects.earliest, "stored_at")
    assert spend.until == month_of(event.stored_at).end_at


async def test_a_price_holds_from_its_instant_also_for_keys_that_are_remembered(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    settings.KEY_CACHE_S = 60.0
    attachment = await attach()
    active_from = datetime.now(UTC) + timedelta(seconds=1.5)

    def add_version() -> None:
        Price.objects.create(
            plan=Plan.objects.get(slug="standard"),
            version=2,
            active_from=active_from,
            token_prices={"*": 2 * TOKEN_PICOUNITS},
        )

    await run_in_database_thread(add_version)
    assert (await post(client, attachment)).status_code == 200
    await asyncio.sleep((active_from - datetime.now(UTC)).total_seconds() + 0.1)
    assert (await post(client, attachment)).status_code == 200
    rows = await run_in_database_thread(lambda: list(UsageEvent.objects.order_by("id")))
    costs = [row.cost_picounits for row in rows]
    assert costs == [HELLO_TOKENS * TOKEN_PICOUNITS, 2 * HELLO_TOKENS * TOKEN_PICOUNITS]
    prices = await run_in_database_thread(Price.objects.in_bulk)
    assert [prices[row.price_id].version for row in rows] == [1, 2]


async def test_spend_is_rebuilt_from_the_ledger_after_a_flush(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    attachment = await attach()
    assert (await post(client, attachment)).status_code == 200
    await redis.flushdb()
    await set_budget(attachment, 0)
    await asyncio.sleep(1.1)  # KEY_CACHE_S
    refused = error_of(await post(client, attachment))
    assert f"0.{'0' * 7}3 is spent" in refused["message"]


async def test_a_refused_event_that_may_be_stored_stays_held(
    client: httpx.AsyncClient,
    attach: Attach,
    limiter: Limiter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests and tokens are given back; what it costs is, once the ledger shows nothing."""

    async def fail(*_: object) -> None:
        raise UsageNotRecorded("the database hangs")

    attachment = await attach()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record", fail)
        assert (await post(client, attachment)).status_code == 503
    spend = await read_spend(limiter, attachment)
    assert spend.held["account"] == spend.picounits["account"] == HELLO_TOKENS * TOKEN_PICOUNITS
    response = await post(client, attachment)
    assert response.headers["x-ratelimit-remaining-requests"] == "499"


async def test_a_failed_request_costs_nothing(
    client: httpx.AsyncClient,
    attach: Attach,
    limiter: Limiter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from inference.dispatch import Dispatcher, EncodeFailed

    async def fail(*_: object, **__: object) -> None:
        raise EncodeFailed((0,))

    attachment = await attach()
    monkeypatch.setattr(Dispatcher, "encode", fail)
    assert (await post(client, attachment)).status_code == 500
    spend = await read_spend(limiter, attachment)
    assert set(spend.picounits.values()) == {0}
    assert not spend.held


async def test_without_redis_the_local_share_serves_and_hard_budgets_refuse(
    client: httpx.AsyncClient, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RedisConnectionError("gone")

    free, capped = await attach(), await attach()
    await set_budget(capped, 1_000_000)
    monkeypatch.setattr(Limiter, "reserve", fail)
    assert (await post(client, free)).status_code == 200
    refused = await post(client, capped)
    assert refused.status_code == 503
    assert "cannot check keys or meter" in error_of(refused)["message"]
    assert await run_in_database_thread(UsageEvent.objects.count) == 1


async def test_a_repeat_costs_nothing_and_counts_a_row_that_is_only_stored_now(
    client: httpx.AsyncClient,
    attach: Attach,
    limiter: Limiter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> None:
        raise UsageNotRecorded("the database hangs")

    attachment, key = await attach(), {"idempotency-key": str(uuid.uuid4())}
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record", fail)
        assert (await post(client, attachment, **key)).status_code == 503
    repeat = await post(client, attachment, **key)
    assert repeat.headers["idempotent-replayed"] == "true"
    assert repeat.headers["x-request-id"] != repeat.headers["original-request-id"]
    again = await post(client, attachment, **key)
    assert again.headers["original-request-id"] == repeat.headers["original-request-id"]
    assert (await post(client, attachment)).status_code == 200
    assert await run_in_database_thread(UsageEvent.objects.count) == 2
    spend = await read_spend(limiter, attachment)
    assert spend.picounits["account"] == 2 * HELLO_TOKENS * TOKEN_PICOUNITS


async def test_who_pays_is_the_customer_that_is_subscribed(
    client: httpx.AsyncClient, attach: Attach, limiter: Limiter
) -> None:
    attachment = await attach()
    customer = await run_in_database_thread(Customer.objects.create, id=uuid.uuid4())

    def move() -> None:
        from billing.models import Subscription

        Subscription.objects.filter(resource_id=attachment.resource_id).update(customer=customer)

    await run_in_database_thread(move)
    assert (await post(client, attachment)).status_code == 200
    event = await run_in_database_thread(UsageEvent.objects.get)
    assert event.customer_id == customer.id
    assert await limiter.read_spend(attachment.resource_id) is None
    assert await limiter.read_spend(customer.id) is not None
