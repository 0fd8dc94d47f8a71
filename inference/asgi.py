"""The ASGI application of the inference routes; all other requests go on to Django."""

import logging
import time
import uuid

from celery import Celery
from django.conf import settings
from redis.asyncio import Redis

from inference.catalogue import installed_models
from inference.dispatch import Dispatcher
from inference.errors import MethodNotAllowed, error_response
from inference.http import ASGIApplication, ClientDisconnected, Receive, Response, Scope, Send
from inference.tokenization import load_tokenizer
from inference.urls import ROUTES
from inference.views import Request, View

logger = logging.getLogger(__name__)


class InferenceApplication:
    """One per web process: holds its connections, started and stopped by ASGI's lifespan."""

    def __init__(self, *, celery: Celery, otherwise: ASGIApplication) -> None:
        self._celery = celery
        self._otherwise = otherwise
        self._redis: Redis
        self._dispatcher: Dispatcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and (views := ROUTES.get(scope["path"])) is not None:
            await self._serve(views, scope, receive, send)
        else:
            await self._otherwise(scope, receive, send)

    async def start(self) -> None:
        """Connect, and load what the first request would otherwise wait for."""
        self._redis = Redis.from_url(settings.REDIS_URL)
        self._dispatcher = Dispatcher(redis=self._redis, celery=self._celery)
        self._dispatcher.start()
        for model in installed_models().values():
            load_tokenizer(model)

    async def stop(self) -> None:
        await self._dispatcher.stop()
        await self._redis.aclose()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(
        self, views: dict[str, View], scope: Scope, receive: Receive, send: Send
    ) -> None:
        started = time.perf_counter()
        request = Request(
            id=str(uuid.uuid4()),
            scope=scope,
            receive=receive,
            redis=self._redis,
            dispatcher=self._dispatcher,
        )
        try:
            response = await self._respond(views, request)
        except ClientDisconnected:
            logger.info("request %s: the client hung up", request.id)
            return
        elapsed_ms = (time.perf_counter() - started) * 1000
        headers = {
            **response.headers,
            "x-request-id": request.id,
            "openai-processing-ms": f"{elapsed_ms:.0f}",
        }
        await Response(status=response.status, body=response.body, headers=headers).send(send)
        # Load balancers ask for /healthz all day.
        logger.log(
            logging.DEBUG if scope["path"] == "/healthz" else logging.INFO,
            "request %s: %s %s %d in %.1f ms",
            request.id,
            scope["method"],
            scope["path"],
            response.status,
            elapsed_ms,
        )

    async def _respond(self, views: dict[str, View], request: Request) -> Response:
        try:
            view = views.get(request.scope["method"])
            if view is None:
                raise MethodNotAllowed(request.scope["method"], ", ".join(views))
            return await view(request)
        except ClientDisconnected:
            raise
        except Exception as error:
            response = error_response(error)
            if response.status == 500:
                logger.exception("request %s failed", request.id)
            elif response.status > 500:
                logger.warning("request %s refused: %s", request.id, error)
            return response
