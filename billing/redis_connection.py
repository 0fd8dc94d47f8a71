"""A connection to Redis, for one event loop and one caller at a time.

redis-py's connection without its client: the pool, the pipeline and the retries around one cost
two to four times the processor time of the round trip itself.
"""

import asyncio
import math
from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

Command = tuple[str | bytes | int | float, ...]


class RedisConnection:
    """Connects when it is first needed, and again when it was lost."""

    def __init__(self, redis: Redis) -> None:
        """To where `redis` connects."""
        pool = redis.connection_pool
        # One timeout for all of a round trip instead of one for each write and read.
        self._connection = pool.connection_class(
            **pool.connection_kwargs | {"socket_timeout": None}
        )

    async def call(self, *commands: Command, timeout_s: float) -> list[Any]:
        """The reply to each of the commands, sent in one round trip; what Redis refuses is a
        ResponseError among them.

        Commands may run twice, where the connection is lost before they are answered. Raises
        RedisError, after which they may have run; a caller that is cancelled knows as little.
        """
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._call(commands)
                except RedisConnectionError:
                    return await self._call(commands)
        except TimeoutError:
            raise RedisTimeoutError("Redis did not answer in time") from None

    async def close(self) -> None:
        await self._connection.disconnect()

    async def _call(self, commands: tuple[Command, ...]) -> list[Any]:
        # Its stub knows tuples of one only.
        packed = b"".join(pack_command(command) for command in commands)  # type: ignore[arg-type]
        try:
            await self._connection.send_packed_command(packed, check_health=False)
            return [await self._read() for _ in commands]
        except BaseException:
            # Else the next caller would read the answers to these commands.
            await self._connection.disconnect(nowait=True)
            raise

    async def _read(self) -> Any:
        try:
            return await self._connection.read_response(timeout=math.inf)
        except ResponseError as refusal:
            return refusal
