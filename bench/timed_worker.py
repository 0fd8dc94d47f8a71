"""`manage.py serve_models` with a clock at the worker's computing: `-m bench.timed_worker`."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from celery.signals import worker_init
from django.core.management import execute_from_command_line

from bench.spans import LOG_VARIABLE, WorkerSpan


@worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _time_the_service(**_: object) -> None:
    """Before the worker's own receiver makes a Service; importing it earlier would be before
    serve_models has set what torch reads when it is imported."""
    from inference.worker import Service

    log = Path(os.environ[LOG_VARIABLE] + ".worker").open("ab", buffering=0)  # noqa: SIM115 - as long as the process
    take, give = Service._take, Service._give
    taken_at = 0.0

    def timed_take(self: Service) -> Any:
        nonlocal taken_at
        work = take(self)
        taken_at = time.perf_counter()
        return work

    def timed_give(self: Service, *args: Any) -> None:
        span = WorkerSpan(taken_at=taken_at, computed_at=time.perf_counter())
        give(self, *args)
        log.write(msgspec.json.encode(span) + b"\n")

    Service._take = timed_take  # type: ignore[method-assign]
    Service._give = timed_give  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    execute_from_command_line(["manage.py", *sys.argv[1:]])
