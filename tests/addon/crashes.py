"""A process that can be told where to die: imported by the programs that are killed.

The file CRASH_AT names points of crash_points.py, one a line: whichever process of the deployment
reaches the first of them takes it off and kills itself. HASTE says which part of the real time it
takes until a death is noticed, never what happens then.
"""

import functools
import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from addon import leases, rounds
from addon.platform import retries
from addon.provider import deliveries, grants
from tests.addon.crash_points import ALL, step_of

CRASH_AT = Path(os.environ["CRASH_AT"])
HASTE = float(os.environ["HASTE"])
PERIOD_S = 5.0 * HASTE

retries.FIRST_WAIT *= HASTE
deliveries.LEASE *= HASTE
deliveries.FIRST_WAIT *= HASTE
grants.LEASE *= HASTE
leases.RENEWED_AFTER_S *= HASTE
rounds.AGAIN_AFTER_S *= HASTE


def break_all() -> None:
    for step in {step_of(point) for point in ALL}:
        _break_at(step)


def _break_at(step: str) -> None:
    path, _, name = step.rpartition(".")
    module = importlib.import_module(f"addon.{path}")
    original: Callable[..., Any] = getattr(module, name)

    @functools.wraps(original)
    def breakable(*args: Any, **kwargs: Any) -> Any:
        _die_at(f"{step} before")
        done = original(*args, **kwargs)
        _die_at(f"{step} after")
        return done

    setattr(module, name, breakable)


def _die_at(point: str) -> None:
    try:
        wanted = CRASH_AT.read_text().splitlines()
    except FileNotFoundError:
        return
    if wanted[:1] == [point]:
        left = CRASH_AT.with_suffix(".left")
        left.write_text("\n".join(wanted[1:]))
        left.replace(CRASH_AT)
        os.kill(os.getpid(), signal.SIGKILL)
