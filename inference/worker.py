"""The worker: a Celery process that computes embeddings. The only module that imports torch.

It is named by `manage.py serve_models` alone and never autodiscovered, so no other process pays
for torch. One process computes one batch at a time (Celery's solo pool).
"""

import logging
import os
import socket
import threading
import time
from functools import lru_cache
from typing import Any

import numpy as np
from celery import Celery, shared_task
from celery.signals import worker_init, worker_ready, worker_shutting_down
from django.conf import settings
from numpy.typing import NDArray
from redis import Redis
from redis.exceptions import RedisError

from inference import presence, wire
from inference.catalogue import get_model, installed_models, queue_name
from inference.engine import Encoder, verify_checkpoint

logger = logging.getLogger(__name__)

WORKER_ID = f"{socket.gethostname()}:{os.getpid()}"
REPLY_LIFE_S = 60  # a reply to a web process that has died is forgotten after this long
_stopping = threading.Event()


@lru_cache(maxsize=1)
def _redis() -> Redis:
    return Redis.from_url(settings.REDIS_URL)


@lru_cache(maxsize=8)
def load_encoder(model_id: str) -> Encoder:
    """The model, its weights checked against the catalogue, ready to compute."""
    model = get_model(model_id)
    if model.path is None:
        raise FileNotFoundError(f"the weights of {model_id} are not installed")
    verify_checkpoint(model.path, model.sha256)
    encoder = Encoder(model.path)
    encoder.encode([np.ones(8, dtype=np.int32)])  # the first pass pays for what is set up lazily
    return encoder


@shared_task(name=wire.ENCODE_TASK, ignore_result=True)
def encode(payload: bytes) -> None:
    """Compute the task's requests and push one reply for each to its web process."""
    task = wire.decode_task(payload)
    now = time.time()
    live = [request for request in task.requests if request.deadline_at > now]
    if len(live) < len(task.requests):
        logger.info("skipped %d requests past their deadline", len(task.requests) - len(live))
    if not live:
        return
    replies = _compute(load_encoder(task.model_id), live)
    pipeline = _redis().pipeline(transaction=False)
    pipeline.rpush(task.reply_to, *[wire.encode(reply) for reply in replies])
    pipeline.expire(task.reply_to, REPLY_LIFE_S)
    pipeline.execute()


def _compute(encoder: Encoder, requests: list[wire.EncodeRequest]) -> list[wire.EncodeReply]:
    """One reply a request. If they fail together they are tried one by one, to spare the others."""
    try:
        return _encode_together(encoder, requests)
    except Exception:
        if len(requests) > 1:
            logger.exception("a batch of %d requests failed; trying each alone", len(requests))
            return [reply for request in requests for reply in _compute(encoder, [request])]
        logger.exception("request %s failed", requests[0].id)
        return [wire.EncodeReply(id=requests[0].id, vectors=b"", error="the model failed")]


def _encode_together(
    encoder: Encoder, requests: list[wire.EncodeRequest]
) -> list[wire.EncodeReply]:
    groups = [_sequences(request) for request in requests]
    vectors = encoder.encode([sequence for group in groups for sequence in group])  # (B, D)
    if not np.isfinite(vectors).all():
        raise FloatingPointError("the model returned numbers that are not finite")
    replies = []
    start = 0
    for request, group in zip(requests, groups, strict=True):
        part = vectors[start : start + len(group)].astype("<f4")
        replies.append(wire.EncodeReply(id=request.id, vectors=part.tobytes()))
        start += len(group)
    return replies


def _sequences(request: wire.EncodeRequest) -> list[NDArray[np.int32]]:
    ids = np.frombuffer(request.ids, dtype="<i4")
    lengths = np.frombuffer(request.lengths, dtype="<i4")
    return np.split(ids, np.cumsum(lengths)[:-1])


def _served_model_ids(app: Celery) -> list[str]:
    """The models whose queues this worker consumes."""
    consumed = app.amqp.queues.consume_from
    return [model_id for model_id in installed_models() if queue_name(model_id) in consumed]


@worker_init.connect
def _load_models(sender: Any, **_: object) -> None:
    """Load before the first task is taken, so that no request waits for weights."""
    for model_id in _served_model_ids(sender.app):
        started = time.perf_counter()
        device = load_encoder(model_id).device
        elapsed_s = time.perf_counter() - started
        logger.info("loaded %s on %s in %.1f s", model_id, device, elapsed_s)


@worker_ready.connect
def _announce_models(sender: Any, **_: object) -> None:
    model_ids = _served_model_ids(sender.app)
    # A thread of its own: the main thread computes, and must not look dead while it does.
    threading.Thread(
        target=_announce_until_stopped, args=(model_ids,), name="presence", daemon=True
    ).start()


def _announce_until_stopped(model_ids: list[str]) -> None:
    while True:
        try:
            for model_id in model_ids:
                presence.announce(_redis(), model_id, WORKER_ID)
        except RedisError:
            logger.exception("cannot announce this worker; trying again")
        if _stopping.wait(presence.HEARTBEAT_S):
            return


@worker_shutting_down.connect
def _withdraw_models(**_: object) -> None:
    """No new requests from here on. What was announced lapses by itself if Redis is gone."""
    _stopping.set()
    try:
        for model_id in installed_models():
            presence.withdraw(_redis(), model_id, WORKER_ID)
    except RedisError:
        logger.exception("cannot withdraw this worker; its presence lapses by itself")
