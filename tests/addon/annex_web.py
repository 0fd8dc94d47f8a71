"""A web process that also runs both reconcilers, and can be told where to die.

`granian … tests.addon.annex_web:application`. The file CRASH_AT names a function and a moment, as
`provider.grants._store before`: the process kills itself there, once, and removes the file.
"""

import importlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from config.asgi import application

# isort: split
# Django, which the line above sets up, must be so before anything below is imported.
from django.core.management import call_command
from django.db import connection

from addon.platform import retries
from addon.platform import tasks as platform_tasks
from addon.platform.accounts import create_account
from addon.platform.authorizations import create_authorization
from addon.platform.models import Account
from addon.provider import deliveries, grants
from addon.provider import tasks as provider_tasks
from billing.models import Plan

logger = logging.getLogger(__name__)

__all__ = ["application"]

PERIOD_S = 0.1
CRASH_AT = Path(os.environ["CRASH_AT"])
POINTS = [
    "provider.grants._store",
    "platform.partner_actions.mark_provisioned",
    "platform.provider_client.deprovision",
]

# How long a lapse takes is shortened, never what happens then.
retries.FIRST_WAIT = deliveries.LEASE = grants.LEASE = timedelta(seconds=1.5)
deliveries.FIRST_WAIT = timedelta(seconds=0.3)


def _break_at(point: str) -> None:
    path, _, name = point.rpartition(".")
    module = importlib.import_module(f"addon.{path}")
    original: Callable[..., Any] = getattr(module, name)

    def breakable(*args: Any, **kwargs: Any) -> Any:
        _die_at(f"{point} before")
        done = original(*args, **kwargs)
        _die_at(f"{point} after")
        return done

    setattr(module, name, breakable)


def _die_at(moment: str) -> None:
    if CRASH_AT.exists() and CRASH_AT.read_text() == moment:
        CRASH_AT.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _reconcile() -> None:
    while True:
        time.sleep(PERIOD_S)
        for task in (provider_tasks.reconcile, platform_tasks.reconcile):
            try:
                task()
            except Exception:
                logger.exception("a round failed")
        connection.close()


def _prepare() -> None:
    if not Account.objects.exists():
        call_command("sync_catalogue", verbosity=0)
        Plan.objects.update(async_operations=["provision", "plan_change", "deprovision"])
        create_authorization(create_account("dev@example.com"), "tests", token=os.environ["TOKEN"])
    connection.close()


_prepare()
for each in POINTS:
    _break_at(each)
threading.Thread(target=_reconcile, daemon=True).start()
