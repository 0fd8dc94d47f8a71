"""A connection to Redis: each caller its own replies, whatever became of the caller before."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from billing.redis_connection import RedisConnection

TIMEOUT_S = 5.0


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    client = Redis.from_url(settings.REDIS_URL)
    yield client
    await client.aclose()


@pytest.fixture
async def connection(redis: Redis) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(redis)
    yield connection
    await connection.close()


async def get(connection: RedisConnection, key: str) -> bytes | None:
    (value,) = await connection.call(("GET", key), timeout_s=TIMEOUT_S)
    assert value is None or isinstance(value, bytes)
    return value


async def test_replies_come_in_the_order_of_the_commands(connection: RedisConnection) -> None:
    commands = [("SET", "a", b"\x00\xff"), ("GET", "a"), ("GET", "none"), ("INCRBY", "n", 3)]
    replies = await connection.call(*commands, timeout_s=TIMEOUT_S)
    assert replies == [b"OK", b"\x00\xff", None, 3]


async def test_what_redis_refuses_is_among_the_replies(connection: RedisConnection) -> None:
    commands = [("SET", "a", "text"), ("LPUSH", "a", "x"), ("GET", "a")]
    ok, refusal, value = await connection.call(*commands, timeout_s=TIMEOUT_S)
    assert (ok, value) == (b"OK", b"text")
    assert isinstance(refusal, ResponseError)


async def test_a_connection_that_was_lost_is_made_again(
    redis: Redis, connection: RedisConnection
) -> None:
    await redis.set("a", "1")
    (id_,) = await connection.call(("CLIENT", "ID"), timeout_s=TIMEOUT_S)
    await redis.client_kill_filter(_id=id_)
    assert await get(connection, "a") == b"1"


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.05])
async def test_the_next_caller_never_reads_the_replies_to_one_that_was_cancelled(
    redis: Redis, connection: RedisConnection, after_s: float
) -> None:
    await redis.set("a", "1")
    waiting = asyncio.ensure_future(connection.call(("BLPOP", "list", 1), timeout_s=TIMEOUT_S))
    await asyncio.sleep(after_s)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await redis.rpush("list", "late")
    assert await get(connection, "a") == b"1"


async def test_a_redis_that_hangs_is_an_error_in_time(
    redis: Redis, connection: RedisConnection
) -> None:
    await get(connection, "a")
    await redis.client_pause(20_000, all=False)  # what writes; unpausing goes through
    with pytest.raises(RedisTimeoutError):
        await connection.call(("LPOP", "a"), timeout_s=0.1)
    await redis.client_unpause()
    assert await get(connection, "a") is None


async def test_a_redis_that_is_not_there_is_an_error() -> None:
    connection = RedisConnection(Redis.from_url("redis://127.0.0.1:1/0"))
    with pytest.raises(RedisConnectionError):
        await connection.call(("PING",), timeout_s=TIMEOUT_S)
