"""A worker with faults that starts and computes in no time: `python -m tests.chaos.instant_worker`.

It speaks as `manage.py serve_models` does. Its vector of a text is drawn from the text's ids, so
that a vector which reached the wrong request shows.
"""

import os
import threading
import time
import uuid
import zlib

import django
import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

# Django must be set up before anything below is imported.
from celery import shared_task  # noqa: E402
from celery.signals import worker_ready  # noqa: E402
from django.conf import settings  # noqa: E402
from redis import Redis  # noqa: E402
from redis.backoff import ExponentialBackoff  # noqa: E402
from redis.exceptions import ConnectionError as RedisConnectionError  # noqa: E402
from redis.exceptions import RedisError  # noqa: E402
from redis.exceptions import TimeoutError as RedisTimeoutError  # noqa: E402
from redis.retry import Retry  # noqa: E402

from config.celery import app  # noqa: E402
from inference import presence, wire  # noqa: E402
from inference.catalogue import get_model, queue_name  # noqa: E402
from inference.pools import pool_name  # noqa: E402
from tests.chaos import haste  # noqa: E402, F401 - shortens times
from tests.chaos.faults import Striker  # noqa: E402
from tests.chaos.schedule import MODEL_ID  # noqa: E402

POOL = "instant"
QUEUE = queue_name(MODEL_ID, pool_name("us", POOL))
REPORT = presence.Report(token_budget=100_000, tokens_per_s=1e9, is_loaded=True)
DIMENSIONS = get_model(MODEL_ID).dimensions

_id = uuid.uuid4().hex
_redis = Redis.from_url(
    settings.REDIS_URL,
    retry=Retry(ExponentialBackoff(cap=1.0), 5),
    retry_on_error=[RedisConnectionError, RedisTimeoutError],
)
_striker = Striker()


@shared_task(name=wire.ENCODE_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
def encode(payload: bytes) -> None:
    with _striker.at("take"):
        task = wire.decode_task(payload)
    with _striker.at("compute"):
        replies = [wire.Reply(part.id, "computed", _vectors(part)) for part in task.parts]
    with _striker.at("answer"):
        _redis.rpush(task.reply_to, wire.encode(replies))


def _vectors(part: wire.Part) -> bytes:
    """Unit vectors (B, D) of the part's texts, as bytes."""
    lengths = np.frombuffer(part.lengths, dtype="<i4")
    texts = np.split(np.frombuffer(part.ids, dtype="<i4"), np.cumsum(lengths)[:-1])
    return np.stack([_vector(text) for text in texts]).astype("<f4").tobytes()


def _vector(ids: NDArray[np.int32]) -> NDArray[np.float64]:
    drawn = np.random.default_rng(zlib.crc32(ids.tobytes())).normal(size=DIMENSIONS)
    return drawn / np.linalg.norm(drawn)


@worker_ready.connect  # type: ignore[untyped-decorator]
def _announce(**_: object) -> None:
    threading.Thread(target=_announce_forever, daemon=True).start()


def _announce_forever() -> None:
    while True:
        try:
            presence.announce(_redis, QUEUE, _id, REPORT)
        except RedisError as error:
            print(f"cannot announce this worker: {error}", flush=True)  # noqa: T201
        time.sleep(presence.HEARTBEAT_S)


if __name__ == "__main__":
    # As `manage.py serve_models` has it.
    app.conf.broker_transport_options |= {"ack_emulation": False}
    app.worker_main(
        [
            "worker",
            "--pool=solo",
            "--prefetch-multiplier=1",
            "--without-gossip",
            "--without-mingle",
            f"--queues={QUEUE}",
            "--loglevel=WARNING",
        ]
    )
