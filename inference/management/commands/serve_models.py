"""`manage.py serve_models`: a worker for the models of the catalogue."""

import gc
import os
import re
import socket
import sys
from argparse import ArgumentParser
from typing import Any

from celery import Celery
from django.core.management.base import BaseCommand, CommandError

from billing.plans import SHARED_POOL
from inference.catalogue import (
    ModelNotInstalled,
    UnknownModel,
    get_model,
    installed_models,
    queue_name,
)
from inference.gpu_processes import run_one_process_each, this_command, visible_gpus
from inference.pools import pool_name, served_regions

# Of a worker that computes on the processor, which it would else take from the web process.
NICENESS = 5
POOL_PATTERN = r"[A-Za-z0-9_-]{1,64}"


class Command(BaseCommand):
    requires_system_checks: list[str] = []
    help = (
        "Compute embeddings: a Celery worker that consumes the queues of the given models, or of "
        "every installed model of the catalogue; of one region where PROCESS_REGION names it. On a "
        "machine with several GPUs, one worker each."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("models", nargs="*", metavar="MODEL", help="a model id")
        parser.add_argument(
            "--pool",
            default=SHARED_POOL,
            help="the pool to work for: a plan's worker_pool, or the id of a resource whose plan "
            'has worker_pool = "resource" (default: %(default)s)',
        )

    def handle(self, *args: Any, **options: Any) -> None:
        pool = options["pool"]
        if not re.fullmatch(POOL_PATTERN, pool):
            raise CommandError(f"--pool must be letters, digits, - and _, not {pool!r}.")
        queues = [
            queue_name(model_id, pool_name(region, pool))
            for region in served_regions()
            for model_id in _model_ids(options["models"])
        ]
        gpus = visible_gpus(os.environ)
        if len(gpus) > 1:
            self.stdout.write(f"one worker for each of {len(gpus)} GPUs")
            sys.exit(run_one_process_each(this_command(), gpus))
        # Threads of a matrix product that wait by spinning take the processor from those that work,
        # and from the web process beside them; read by OpenMP when torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        # Large pages for tensors, read by torch likewise; docs/engine.md has what it gains.
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        if not gpus:
            # Whatever else runs here needs the processor for a moment only: it shall not wait.
            os.nice(NICENESS)
        # Searching what torch and transformers make for garbage takes a tenth of the start; the
        # worker turns it on again.
        gc.disable()
        # Celery's thread and the engine's take turns: let them not wait 5 ms for each other.
        sys.setswitchinterval(0.0005)
        sys.exit(_work(queues))


def _work(queues: list[str]) -> int:
    """Be a worker of those queues until it is stopped; its exit status."""
    # Django's checks and the platform's tasks import every page and API: this application of Celery
    # does without both, and starts without its command line.
    os.environ.setdefault("CELERY_SKIP_CHECKS", "1")
    app = Celery("annex")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    # Two round trips a task less. A task is acknowledged before it runs, and what a worker that
    # dies has taken is sent again by the web process (docs/adr/0008-fair-dispatch.md).
    transport = {**app.conf.broker_transport_options, "ack_emulation": False}
    app.conf.broker_transport_options = transport
    worker = app.Worker(
        pool_cls="solo",  # tasks are only taken apart there; the engine has threads of its own
        prefetch_multiplier=1,
        without_gossip=True,
        without_mingle=True,
        include=["inference.worker"],
        queues=queues,
        hostname=f"gpu-{os.getpid()}@{socket.gethostname()}",
        loglevel="INFO",
    )
    worker.start()
    status: int = worker.exitcode or 0
    return status


def _model_ids(wanted: list[str]) -> list[str]:
    ours = [model.id for model in installed_models().values() if model.upstream is None]
    if not (wanted or ours):
        raise CommandError("No model of the catalogue has its weights installed.")
    for model_id in wanted:
        try:
            model = get_model(model_id)
        except ModelNotInstalled as error:
            raise CommandError(f"{error}.") from None
        except UnknownModel:
            known = ", ".join(ours) or "none"
            raise CommandError(f"There is no model {model_id}. Installed: {known}.") from None
        if model.upstream is not None:
            raise CommandError(f"{model_id} needs no worker: {model.upstream} computes it.")
    return wanted or ours
