"""`manage.py serve_models` with faults: `python -m tests.chaos.engine_worker --pool NAME`."""

import os
import sys
from typing import Any

from celery.signals import worker_init
from django.core.management import execute_from_command_line

from tests.chaos.faults import Striker


@worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _break_the_service(**_: object) -> None:
    """Before the worker's own receiver makes a Service; importing it earlier would be before
    serve_models has set what torch reads when it is imported."""
    from inference.batching import Batcher
    from inference.worker import Service
    from tests.chaos import haste  # noqa: F401 - shortens times

    striker = Striker()
    accept, give, reply = Batcher.accept, Service._give, Service._reply

    def breakable_accept(self: Batcher, *args: Any) -> None:
        with striker.at("take"):
            accept(self, *args)

    def breakable_give(self: Service, *args: Any) -> None:
        with striker.at("compute"):
            give(self, *args)

    def breakable_reply(self: Service, *args: Any) -> None:
        with striker.at("answer"):
            reply(self, *args)

    Batcher.accept = breakable_accept  # type: ignore[assignment,method-assign]
    Service._give = breakable_give  # type: ignore[assignment,method-assign]
    Service._reply = breakable_reply  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    execute_from_command_line(["manage.py", "serve_models", *sys.argv[1:]])
