"""Refusals for limits are counted for log streams, and no request waits for that."""

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from addon.provider.log_lines import MINUTES_KEY, refusals_field, refusals_key
from addon.provider.models import Resource
from billing.models import Plan
from inference.asgi import InferenceApplication
from inference.database import run_in_database_thread
from inference.embeddings import ModelNotInPlan
from inference.lanes import Overloaded, TooMuchWaiting
from inference.refusal_counts import limit_of
from tests.inference.conftest import MODEL_ID, Attach, Attachment
from tests.inference.test_refusals import post

LOG_INPUT_URL = "https://token:t.secret@logs.example.com/logs"


@pytest.fixture
async def attachment(attach: Attach) -> Attachment:
    """Allowed one request a minute."""
    attachment = await attach()
    await run_in_database_thread(Plan.objects.update, requests_per_minute=1)
    return attachment


async def have_log_stream(attachment: Attachment) -> None:
    """As the platform named one."""
    resource = await run_in_database_thread(Resource.objects.get, id=attachment.resource_id)
    resource.log_input_url = LOG_INPUT_URL
    await run_in_database_thread(resource.save)


async def refuse(client: httpx.AsyncClient, attachment: Attachment, redis: Redis) -> None:
    """Since there was a request 20 seconds ago."""
    time_s, microseconds = await redis.time()
    subject = f"limits:{{{attachment.resource_id}}}:{attachment.attachment_id}:{MODEL_ID}"
    await redis.zadd(f"{subject}:log", {"earlier:3": (time_s - 20) * 1_000_000 + microseconds})
    await redis.set(f"{subject}:tokens", 3)
    response = await post(client, attachment.key)
    assert response.status_code == 429


async def test_refusals_are_added_up_in_redis(
    client: httpx.AsyncClient,
    application: InferenceApplication,
    attachment: Attachment,
    redis: Redis,
) -> None:
    await have_log_stream(attachment)
    for _ in range(3):
        await refuse(client, attachment, redis)
    assert await redis.keys("log_lines*") == []  # not while somebody waits
    await application._refusal_counts._flush()
    (minute,) = await redis.smembers(MINUTES_KEY)
    field = refusals_field(attachment.resource_id, attachment.attachment_id, "requests")
    assert await redis.hgetall(refusals_key(int(minute))) == {field.encode(): b"3"}
    assert await redis.ttl(refusals_key(int(minute))) > 0


async def test_without_a_log_stream_nothing_is_counted(
    client: httpx.AsyncClient,
    application: InferenceApplication,
    attachment: Attachment,
    redis: Redis,
) -> None:
    await refuse(client, attachment, redis)
    await application._refusal_counts._flush()
    assert await redis.keys("log_lines*") == []


async def test_what_redis_does_not_take_is_kept_for_the_next_time(
    client: httpx.AsyncClient,
    application: InferenceApplication,
    attachment: Attachment,
    redis: Redis,
) -> None:
    await have_log_stream(attachment)
    await refuse(client, attachment, redis)
    counts = application._refusal_counts
    counts._redis, ours = Redis(port=9), counts._redis
    try:
        await counts._flush()
    finally:
        await counts._redis.aclose()
        counts._redis = ours
    await refuse(client, attachment, redis)
    await counts._flush()
    (minute,) = await redis.smembers(MINUTES_KEY)
    assert await redis.hvals(refusals_key(int(minute))) == [b"2"]


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (TooMuchWaiting(wait_s=9, retry_after_s=3), "queue"),
        (Overloaded(wait_s=9, retry_after_s=3), None),  # nobody's limit
        (RedisConnectionError(), None),
        (ModelNotInPlan.__new__(ModelNotInPlan), None),
    ],
)
def test_only_refusals_for_limits_count(error: Exception, limit: str | None) -> None:
    assert limit_of(error) == limit
