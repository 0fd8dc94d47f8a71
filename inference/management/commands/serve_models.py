"""`manage.py serve_models`: a worker for the models of the catalogue."""

import os
from argparse import ArgumentParser
from typing import Any

from celery import current_app
from django.core.management.base import BaseCommand, CommandError

from inference.catalogue import UnknownModel, get_model, installed_models, queue_name


class Command(BaseCommand):
    help = (
        "Compute embeddings: a Celery worker that consumes the queues of the given models, or of "
        "every installed model of the catalogue."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("models", nargs="*", metavar="MODEL", help="a model id")

    def handle(self, *args: Any, **options: Any) -> None:
        model_ids = options["models"] or list(installed_models())
        if not model_ids:
            raise CommandError("No model of the catalogue has its weights installed.")
        try:
            queues = [queue_name(get_model(model_id).id) for model_id in model_ids]
        except UnknownModel as error:
            known = ", ".join(error.known) or "none"
            raise CommandError(
                f"Unknown or not installed: {error.model_id}. Installed: {known}."
            ) from None
        # Threads of a matrix product that wait by spinning take the processor from those that work,
        # and from the web process beside them; read by OpenMP when torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        # solo: one batch at a time in this very process, which owns the weights and the device.
        current_app.worker_main(
            [
                "worker",
                "--pool=solo",
                "--prefetch-multiplier=1",
                "--without-gossip",
                "--without-mingle",
                "--include=inference.worker",
                f"--queues={','.join(queues)}",
                f"--hostname=gpu-{os.getpid()}@%h",
                "--loglevel=INFO",
            ]
        )
