"""Dispatch: requests of this web process to the workers, and their vectors back.

Requests that wait at the same moment travel in one Celery task. Replies do not go through Celery's
result backend: the worker pushes them to a list of this process, which one reader waits on.
"""

import asyncio
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
from celery import Celery
from numpy.typing import NDArray
from redis.asyncio import Redis
from redis.exceptions import RedisError

from inference import presence, wire
from inference.catalogue import Model, queue_name
from inference.tokenization import TokenBatch

logger = logging.getLogger(__name__)

TASK_MAX_REQUESTS = 64
TASK_MAX_TOKENS = 4_096
PRESENCE_CACHE_S = 0.5
READ_BLOCK_S = 1.0
READ_MAX_REPLIES = 256
RETRY_AFTER_S = 5


class WorkerUnavailable(Exception):
    """No worker answered for the model in time; worth trying again in `retry_after_s`."""

    def __init__(self, model_id: str, reason: str, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(reason)
        self.model_id = model_id
        self.retry_after_s = retry_after_s


class EncodeFailed(Exception):
    """A worker tried and could not compute this request."""


class _Waiting:
    """A request between `encode` and its reply."""

    __slots__ = ("future", "model", "request")

    def __init__(self, model: Model, request: wire.EncodeRequest) -> None:
        self.model = model
        self.request = request
        self.future: asyncio.Future[wire.EncodeReply] = asyncio.get_running_loop().create_future()


class Dispatcher:
    """One per web process. `start` and `stop` run on the event loop that serves requests."""

    def __init__(self, *, redis: Redis, celery: Celery) -> None:
        self._redis = redis
        self._celery = celery
        self._reply_to = f"replies:{uuid.uuid4().hex}"
        self._unsent: list[_Waiting] = []
        self._waiting: dict[str, _Waiting] = {}
        self._wake = asyncio.Event()
        self._ready_until: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        # Celery publishes synchronously; one thread keeps one connection to the broker.
        self._publisher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publish")

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._publish_forever(), name="publish"),
            asyncio.create_task(self._read_forever(), name="read replies"),
        ]

    async def stop(self) -> None:
        # The flag as well: redis-py loses a cancellation that comes while it connects.
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._publisher.shutdown(wait=False)

    async def encode(
        self, model: Model, batch: TokenBatch, *, request_id: str, deadline_at: float
    ) -> NDArray[np.float32]:
        """Vectors (B, D) float32 of the batch's B texts.

        `deadline_at` is in unix seconds. Raises WorkerUnavailable when no worker is there or none
        answers by then, EncodeFailed when one could not compute it.
        """
        await self._require_worker(model.id)
        request = wire.EncodeRequest(
            id=request_id,
            deadline_at=deadline_at,
            ids=batch.ids.astype("<i4").tobytes(),
            lengths=batch.lengths.astype("<i4").tobytes(),
        )
        waiting = _Waiting(model, request)
        self._waiting[request_id] = waiting
        self._unsent.append(waiting)
        self._wake.set()
        try:
            async with asyncio.timeout(max(0.0, deadline_at - time.time())):
                reply = await waiting.future
        except TimeoutError:
            raise WorkerUnavailable(model.id, "no worker answered in time") from None
        finally:
            del self._waiting[request_id]
        if reply.error is not None:
            raise EncodeFailed(reply.error)
        vectors = np.frombuffer(reply.vectors, dtype="<f4")
        return vectors.reshape(len(batch.lengths), model.dimensions)  # (B, D)

    async def _require_worker(self, model_id: str) -> None:
        now = time.monotonic()
        if self._ready_until.get(model_id, 0.0) > now:
            return
        try:
            workers = await presence.count_workers(self._redis, model_id)
        except RedisError as error:
            raise WorkerUnavailable(model_id, "the queue cannot be reached") from error
        if workers == 0:
            raise WorkerUnavailable(model_id, "no worker is running")
        self._ready_until[model_id] = now + PRESENCE_CACHE_S

    async def _publish_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            # While one publish is under way, requests gather; they leave together in the next.
            unsent, self._unsent = self._unsent, []
            by_model: dict[str, list[_Waiting]] = defaultdict(list)
            for waiting in unsent:
                if waiting.request.id in self._waiting:  # else its client is gone
                    by_model[waiting.model.id].append(waiting)
            for model_id, group in by_model.items():
                for part in _split(group):
                    await loop.run_in_executor(self._publisher, self._publish, model_id, part)

    def _publish(self, model_id: str, group: list[_Waiting]) -> None:
        """Send one task; runs in the publisher thread."""
        try:
            requests = [waiting.request for waiting in group]
            task = wire.EncodeTask(model_id=model_id, reply_to=self._reply_to, requests=requests)
            self._celery.send_task(
                wire.ENCODE_TASK,
                args=[wire.encode(task)],
                queue=queue_name(model_id),
                serializer=wire.SERIALIZER,
                ignore_result=True,
            )
        except Exception as error:
            # Whatever the broker's client raises, the requests in hand must not wait in vain.
            logger.exception("could not publish %d requests for %s", len(group), model_id)
            refusal = WorkerUnavailable(model_id, "the queue cannot be reached")
            refusal.__cause__ = error
            for waiting in group:
                loop = waiting.future.get_loop()
                loop.call_soon_threadsafe(_fail, waiting.future, refusal)

    async def _read_forever(self) -> None:
        while not self._stopping:
            try:
                popped = await self._redis.blpop([self._reply_to], timeout=READ_BLOCK_S)
                if popped is None:
                    continue
                # The client decodes nothing: what it pops are bytes.
                self._deliver(cast(bytes, popped[1]))
                for payload in await self._redis.lpop(self._reply_to, READ_MAX_REPLIES) or ():
                    self._deliver(cast(bytes, payload))
            except Exception:
                # Nothing may end this loop: every request of this process waits for it. Those that
                # wait now end at their deadlines if their replies are lost.
                logger.exception("cannot read replies; trying again")
                await asyncio.sleep(0.5)

    def _deliver(self, payload: bytes) -> None:
        try:
            reply = wire.decode_reply(payload)
        except ValueError:
            logger.exception("dropped a reply that is not one")
            return
        waiting = self._waiting.get(reply.id)
        if waiting is None or waiting.future.done():
            logger.info("dropped a late or repeated reply to request %s", reply.id)
            return
        waiting.future.set_result(reply)


def _split(group: list[_Waiting]) -> Iterator[list[_Waiting]]:
    """Tasks of a bounded size: replies leave a worker when their whole task is computed."""
    part: list[_Waiting] = []
    tokens = 0
    for waiting in group:
        size = len(waiting.request.ids) // 4
        if part and (len(part) == TASK_MAX_REQUESTS or tokens + size > TASK_MAX_TOKENS):
            yield part
            part, tokens = [], 0
        part.append(waiting)
        tokens += size
    if part:
        yield part


def _fail(future: "asyncio.Future[wire.EncodeReply]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
