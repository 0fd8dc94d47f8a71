"""The worker of the Procfile, and beat's part in it: `python -m tests.addon.annex_worker`.

It can be told where to die.
"""

import os
import threading
import time
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

# Django must be set up before anything below is imported.
from celery.signals import worker_ready  # noqa: E402

from addon.platform import tasks as platform_tasks  # noqa: E402
from addon.provider import tasks as provider_tasks  # noqa: E402
from config.celery import app  # noqa: E402
from tests.addon.crashes import PERIOD_S, break_all  # noqa: E402


@worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
def _begin(**_: object) -> None:
    Path(os.environ["WORKER_PID"]).write_text(str(os.getpid()))
    threading.Thread(target=_beat, daemon=True).start()


def _beat() -> None:
    while True:
        for task in (provider_tasks.reconcile, platform_tasks.reconcile):
            task.apply_async(expires=PERIOD_S)
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    break_all()
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            "--concurrency=5",
            "--queues=control",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=ERROR",
        ]
    )
