"""The ASGI application of the inference routes; all other requests go on to Django."""

import asyncio
import logging
import time
import uuid
from collections.abc import Collection
from dataclasses import replace
from urllib.parse import quote

from django.conf import settings
from django.db import Error as DatabaseError
from redis.asyncio import BlockingConnectionPool, Redis
from uuid_utils.compat import uuid7

from billing.exports import enabled_destinations
from billing.local_share import FailoverLimiter
from billing.metering import Ledger
from billing.periods import Period
from billing.rate_limits import LimiterUnavailable
from billing.spend import LedgerSpend, spend_in_ledger
from inference.catalogue import installed_models
from inference.database import run_in_database_thread
from inference.dialects import openai
from inference.dispatch import Dispatcher
from inference.errors import describe
from inference.failures import Failure
from inference.http import ASGIApplication, Receive, Response, Scope, Send
from inference.rate_limit_headers import refusal_headers
from inference.refusal_counts import RefusalCounts
from inference.standings import Asked, find_standing
from inference.tokenization import load_tokenizer
from inference.upstream.upstreams import Upstreams
from inference.urls import dialect_of, get_route, is_ours
from inference.views import Request

logger = logging.getLogger(__name__)

REDIS_CONNECTIONS = 32
REDIS_POOL_TIMEOUT_S = 10
READ_LEDGER_TIMEOUT_S = 5.0
# Load balancers, SageMaker and Prometheus ask for these all day.
QUIET = ("/healthz", "/ping", "/metrics")


class InferenceApplication:
    """One per web process: holds its connections, started and stopped by ASGI's lifespan."""

    def __init__(self, *, otherwise: ASGIApplication) -> None:
        self._otherwise = otherwise
        self._redis: Redis
        self._limiter: FailoverLimiter
        self._dispatcher: Dispatcher
        self._upstreams: Upstreams
        self._ledger: Ledger
        self._refusal_counts: RefusalCounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and is_ours(scope["path"]):
            await self._serve(scope, receive, send)
        else:
            await self._otherwise(scope, receive, send)

    async def start(self) -> None:
        """Connect, and load what the first request would otherwise wait for."""
        # A pool that makes callers wait: the plain one fails them when its connections are taken.
        pool = BlockingConnectionPool.from_url(
            settings.REDIS_URL, max_connections=REDIS_CONNECTIONS, timeout=REDIS_POOL_TIMEOUT_S
        )
        self._redis = Redis(connection_pool=pool)
        self._limiter = FailoverLimiter(
            self._redis,
            read_ledger=_read_ledger,
            processes=settings.LIMITS_PROCESSES,
            local_share_s=settings.LIMITS_LOCAL_SHARE_S,
        )
        self._ledger = Ledger(enabled_destinations())
        self._dispatcher = Dispatcher(redis=self._redis)
        self._dispatcher.start()
        self._upstreams = Upstreams()
        self._refusal_counts = RefusalCounts(self._redis)
        self._refusal_counts.start()
        for model in installed_models().values():
            load_tokenizer(model)

    async def stop(self) -> None:
        await self._dispatcher.stop()
        await self._upstreams.stop()
        await self._refusal_counts.stop()
        await self._ledger.close()
        await self._limiter.close()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request_id = uuid7()
        response = await self._respond(request_id, scope, receive)
        elapsed_ms = (time.perf_counter() - started) * 1000
        headers = {
            **response.headers,
            "x-request-id": str(request_id),
            "openai-processing-ms": f"{elapsed_ms:.0f}",
        }
        await Response(status=response.status, body=response.body, headers=headers).send(send)
        logger.log(
            logging.DEBUG if scope["path"] in QUIET else logging.INFO,
            "request %s: %s %s %d in %.1f ms",
            request_id,
            scope["method"],
            quote(scope["path"]),  # it may hold line feeds, and with them lines of its own
            response.status,
            elapsed_ms,
        )

    async def _respond(self, request_id: uuid.UUID, scope: Scope, receive: Receive) -> Response:
        dialect = dialect_of(scope["path"])
        asked = Asked()
        try:
            match = get_route(scope["path"])
            return await match.view(scope["method"])(
                Request(
                    id=request_id,
                    scope=scope,
                    receive=receive,
                    dialect=dialect,
                    parameters=match.parameters,
                    asked=asked,
                    redis=self._redis,
                    limiter=self._limiter,
                    dispatcher=self._dispatcher,
                    upstreams=self._upstreams,
                    ledger=self._ledger,
                )
            )
        except Exception as error:
            failure = replace(describe(error), cause=error)
            self._refusal_counts.count(asked.caller, error)
            if failure.status == 500:
                logger.exception("request %s failed", request_id)
            elif failure.status > 500:
                cause = error.__cause__ or error
                logger.warning("request %s refused: %s (%r)", request_id, error, cause)
            if dialect is openai.DIALECT and openai.is_from_plugin(scope):
                dialect = openai.PLUGIN_DIALECT
            return dialect.render_failure(
                await self._with_standing(failure, asked), str(request_id)
            )

    async def _with_standing(self, failure: Failure, asked: Asked) -> Failure:
        """The failure with the headers that answers have, unless the limiter gave it those."""
        if "x-ratelimit-limit-requests" in failure.headers:
            return failure
        standing = await find_standing(asked, self._limiter)
        if standing is None:
            return failure
        return replace(failure, headers={**refusal_headers(standing), **failure.headers})


async def _read_ledger(
    customer_id: uuid.UUID, period: Period, asked: Collection[uuid.UUID]
) -> LedgerSpend:
    """As `spend_in_ledger`. Raises LimiterUnavailable."""
    try:
        async with asyncio.timeout(READ_LEDGER_TIMEOUT_S):
            return await run_in_database_thread(spend_in_ledger, customer_id, period, asked)
    except (DatabaseError, TimeoutError) as error:
        raise LimiterUnavailable("the ledger cannot be read") from error
