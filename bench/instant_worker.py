"""`python -m bench.instant_worker`: a worker that computes nothing. It answers every task at once,
always with the same vectors, so that what is around the engine can be measured."""

import os
import threading
import time

import django
import numpy as np

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

# Django must be set up before anything below is imported.
from celery import shared_task  # noqa: E402
from celery.signals import worker_ready  # noqa: E402
from django.conf import settings  # noqa: E402
from redis import Redis  # noqa: E402

from bench.workload import MODEL_ID  # noqa: E402
from billing.plans import SHARED_POOL  # noqa: E402
from config.celery import app  # noqa: E402
from inference import presence, wire  # noqa: E402
from inference.catalogue import get_model, queue_name  # noqa: E402
from inference.pools import pool_name  # noqa: E402

QUEUE = queue_name(MODEL_ID, pool_name("us", SHARED_POOL))
# So fast that no request is refused for the time it would wait.
REPORT = presence.Report(token_budget=1_000_000, tokens_per_s=1e9)

_redis = Redis.from_url(settings.REDIS_URL)
_rng = np.random.default_rng(0)
_vector = (_rng.normal(size=get_model(MODEL_ID).dimensions) / 20).astype("<f4").tobytes()


@shared_task(name=wire.ENCODE_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
def encode(payload: bytes) -> None:
    task = wire.decode_task(payload)
    replies = [
        wire.Reply(part_id=part.id, outcome="computed", vectors=_vector * (len(part.lengths) // 4))
        for part in task.parts
    ]
    _redis.rpush(task.reply_to, wire.encode(replies))


@worker_ready.connect  # type: ignore[untyped-decorator]
def _announce(**_: object) -> None:
    threading.Thread(target=_announce_forever, daemon=True).start()


def _announce_forever() -> None:
    while True:
        presence.announce(_redis, QUEUE, "instant", REPORT)
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
