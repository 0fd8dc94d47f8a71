"""The worker: a Celery process that computes embeddings. The only module that imports torch.

It is named by `manage.py serve_models` alone and never autodiscovered, so no other process pays
for torch. Celery's main thread takes tasks from the broker and hands their parts to the batcher;
the engine's pipeline takes batches from it and gives vectors back, in threads of its own.
"""

import gc
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from celery import shared_task
from celery.signals import worker_init, worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings
from msgspec.structs import replace
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from inference import checkpoints, presence, wire
from inference.batching import Batch, Batcher, Held
from inference.catalogue import Model, get_model, model_of_queue
from inference.engine import (
    Encoded,
    Encoder,
    ModelStore,
    Pipeline,
    Work,
    estimate_memory_bytes,
)

logger = logging.getLogger(__name__)

# Unique also among containers, which share host names and process ids.
WORKER_ID = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
REPLY_LIFE_S = 60  # a reply to a web process that has died is forgotten after this long
# What is held is finished in this time after a stop signal, or handed back; 25 s in all.
DRAIN_S = 18.0
JOIN_S = 2.0
# Of a model that has not been loaded yet.
UNKNOWN = presence.Report(token_budget=1_024, tokens_per_s=0.0)


class Service:
    """What this process serves: models of a pool, of one region or of all, by one pipeline on one
    device."""

    def __init__(self, *, redis: Redis, queues: Iterable[str], memory_bytes: int) -> None:
        """`queues`: of Celery, each of one model; `memory_bytes`: what loaded models may take."""
        self._redis = redis
        self._queues = {queue: model_of_queue(queue) for queue in queues}
        self._models = ModelStore(
            memory_budget_bytes=memory_bytes, load=_load, estimate_bytes=_estimate_bytes
        )
        self._reports: dict[str, presence.Report] = {}
        self.batcher = Batcher(self._budget_of, is_loaded=lambda id_: id_ in self._models.resident)
        self._pipeline = Pipeline(take=self._take, give=self._give)
        self._last_given_at = 0.0
        self._computing = threading.Thread(target=self._compute, name="compute", daemon=True)
        self._announcing = threading.Thread(
            target=self._announce_until_stopped, name="presence", daemon=True
        )
        self._has_left = threading.Event()

    def load(self) -> None:
        """Load what fits, before the first task is taken, so that no request waits for weights.
        Raises ModelTooLarge for a model that could never be loaded."""
        for model_id in dict.fromkeys(self._queues.values()):
            if self._models.resident and not self._models.has_room_for(model_id):
                logger.info("%s is loaded when it is first asked for", model_id)
                continue
            started = time.perf_counter()
            encoder = self._get(model_id)
            elapsed_s = time.perf_counter() - started
            logger.info(
                "loaded %s on %s (%s) in %.1f s", model_id, encoder.device, encoder.dtype, elapsed_s
            )

    def start(self) -> None:
        self._computing.start()
        self._announce()
        self._announcing.start()
        logger.info("ready: %s", ", ".join(self._queues))

    def stop(self) -> None:
        """Finish what is held, or hand it back, and say good-bye."""
        self._announce()
        rest = self.batcher.drain(DRAIN_S)
        if rest:
            logger.warning("handing %d parts back, unfinished", len(rest))
            self._reply((held, wire.Reply(held.part.id, "handed back")) for held in rest)
        self._has_left.set()
        for thread in (self._computing, self._announcing):
            if thread.is_alive():
                thread.join(timeout=JOIN_S)
        for queue in self._queues:
            presence.withdraw(self._redis, queue, WORKER_ID)

    def _get(self, model_id: str) -> Encoder:
        """The model, loaded if it is not; what it can do is known from the first time on."""
        if model_id not in self._models.resident:
            # Before others go for it.
            model = get_model(model_id)
            checkpoints.verify(_folder(model), model.weights)
            if not self._models.has_room_for(model_id):
                self._pipeline.wait_until_empty()  # what is computed holds its model in memory
        encoder = self._models.get(model_id)
        if model_id not in self._reports:
            self.batcher.streams = encoder.streams
            self._reports[model_id] = _measure(encoder)
        return encoder

    def _budget_of(self, model_id: str) -> int:
        return self._reports.get(model_id, UNKNOWN).token_budget

    def _compute(self) -> None:
        try:
            self._pipeline.run()
        except BaseException:
            # What it held is sent again by the web processes, once this worker's presence lapses.
            logger.critical("the engine has ended; so does this worker", exc_info=True)
            os.kill(os.getpid(), signal.SIGKILL)

    def _take(self) -> "Work[tuple[Batch, float]] | None":
        while (batch := self.batcher.take()) is not None:
            try:
                encoder = self._get(batch.model_id)
            except Exception:
                logger.exception("cannot load %s", batch.model_id)
                self._answer(batch, [wire.Reply(held.part.id, "failed") for held in batch.parts])
                continue
            sequences = [text for held in batch.parts for text in held.sequences]
            return Work(encoder=encoder, sequences=sequences, tag=(batch, time.perf_counter()))
        return None

    def _give(self, tag: tuple[Batch, float], encoded: Encoded) -> None:
        batch, taken_at = tag
        self._answer(batch, list(_replies(batch, encoded)))
        self._rate(batch, taken_at)

    def _answer(self, batch: Batch, replies: list[wire.Reply]) -> None:
        try:
            self._reply(zip(batch.parts, replies, strict=True))
        finally:
            self.batcher.done(batch)

    def _reply(self, replies: Iterable[tuple[Held, wire.Reply]]) -> None:
        """Push each reply to its web process; one message for all that go to the same."""
        messages: dict[str, list[wire.Reply]] = defaultdict(list)
        for held, reply in replies:
            messages[held.reply_to].append(reply)
        pipeline = self._redis.pipeline(transaction=False)
        for reply_to, message in messages.items():
            pipeline.rpush(reply_to, wire.encode(message))
            pipeline.expire(reply_to, REPLY_LIFE_S)
        try:
            pipeline.execute()
        except RedisError:
            logger.exception("lost the replies to %d parts", sum(map(len, messages.values())))

    def _rate(self, batch: Batch, taken_at: float) -> None:
        """Learn from a batch how many tokens this worker computes a second."""
        now = time.perf_counter()
        elapsed_s = now - max(taken_at, self._last_given_at)
        self._last_given_at = now
        tokens = batch.tokens
        report = self._reports.get(batch.model_id)
        # A small batch costs more a token, and says nothing of what a backlog would.
        if report is not None and tokens >= report.token_budget / 2:
            # The mean of the time, not of the rate: of two streams' batches that end together, the
            # second seems to have taken no time.
            s_per_token = 0.8 / report.tokens_per_s + 0.2 * elapsed_s / tokens
            self._reports[batch.model_id] = replace(report, tokens_per_s=1 / s_per_token)

    def _announce(self) -> None:
        try:
            self._announce_each()
        except RedisError:
            logger.exception("cannot announce this worker; trying again")

    def _announce_each(self) -> None:
        for queue, model_id in self._queues.items():
            report = replace(
                self._reports.get(model_id, UNKNOWN),
                is_accepting=not self.batcher.is_stopping,
                is_loaded=model_id in self._models.resident,
            )
            presence.announce(self._redis, queue, WORKER_ID, report)

    def _announce_until_stopped(self) -> None:
        """In a thread of its own: neither computing nor a full queue may make it look dead."""
        while not self._has_left.wait(presence.HEARTBEAT_S):
            self._announce()


def _load(model_id: str) -> Encoder:
    """The model, ready to compute."""
    model = get_model(model_id)
    encoder = Encoder(_folder(model), pooling=model.pooling)
    encoder.warm_up()
    return encoder


def _estimate_bytes(model_id: str) -> int:
    return estimate_memory_bytes(_folder(get_model(model_id)))


def _folder(model: Model) -> Path:
    if model.path is None:
        raise FileNotFoundError(f"the weights of {model.id} are not installed")
    return model.path


def _measure(encoder: Encoder) -> presence.Report:
    """What a quarter of a full batch takes, of short texts: the first request waits for it."""
    texts = [np.ones(32, dtype=np.int32)] * max(1, encoder.token_budget // 128)
    started = time.perf_counter()
    encoder.encode(texts)
    rate = 32 * len(texts) / (time.perf_counter() - started)
    # On a GPU one is computed and one prepared.
    return presence.Report(
        token_budget=encoder.token_budget,
        tokens_per_s=rate,
        batches_at_once=max(2, encoder.streams),
    )


def _replies(batch: Batch, encoded: Encoded) -> Iterable[wire.Reply]:
    """One reply a part, of its rows of the batch's vectors (B, D)."""
    failed = set(encoded.failed)
    start = 0
    for held in batch.parts:
        stop = start + len(held.sequences)
        choked = tuple(row - start for row in range(start, stop) if row in failed)
        if choked:
            logger.error("texts %s of part %d cannot be computed", choked, held.part.id)
            yield wire.Reply(held.part.id, "failed", failed=choked)
        else:
            vectors = encoded.vectors[start:stop].astype("<f4", copy=False)
            yield wire.Reply(held.part.id, "computed", vectors.tobytes())
        start = stop


_service: Service | None = None


@shared_task(name=wire.ENCODE_TASK, ignore_result=True)
def encode(payload: bytes) -> None:
    """Hold the task's parts until they are computed; their web process gets the replies."""
    if _service is None:
        raise RuntimeError("start this worker with `manage.py serve_models`")
    _service.batcher.accept(wire.decode_task(payload))


@worker_init.connect
def _start_service(sender: Any, **_: object) -> None:
    global _service
    # The modules stay: they are never searched for garbage, which would hold all threads up.
    gc.freeze()
    try:
        redis = Redis.from_url(
            settings.REDIS_URL,
            retry=Retry(ExponentialBackoff(cap=1.0), 5),
            retry_on_error=[RedisConnectionError, RedisTimeoutError],
        )
        queues = sender.app.amqp.queues.consume_from
        memory_bytes = settings.WORKER_MEMORY_MB * 1_000_000
        _service = Service(redis=redis, queues=queues, memory_bytes=memory_bytes)
        _service.load()
    except Exception as error:
        # Celery would log it and start a worker without a model.
        logger.critical("cannot load the models", exc_info=True)
        raise SystemExit(1) from error
    gc.enable()


@worker_ready.connect
def _announce_service(**_: object) -> None:
    if _service is not None:
        _service.start()


@worker_shutting_down.connect
def _refuse_new_work(**_: object) -> None:
    """In a signal handler: sets a flag, takes no lock. The next heartbeat tells."""
    if _service is not None:
        _service.batcher.is_stopping = True


@worker_shutdown.connect
def _stop_service(**_: object) -> None:
    if _service is not None:
        _service.stop()
