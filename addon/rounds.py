"""Rounds of background work in which a partner that hangs holds up nobody but itself.

A step is one thing that is due, and belongs to a partner: the service or the platform that it
calls. Steps run side by side, a few of each partner. Once a step takes longer than PATIENCE_S, the
round begins no other of its partner. It goes on looking for what is due until nothing is.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

from celery.signals import worker_shutting_down
from django.db import connection

logger = logging.getLogger(__name__)

AT_ONCE = 32
AT_ONCE_OF_A_PARTNER = 4
PATIENCE_S = 5.0
# A round begins nothing after so long. What hangs by then is left to its thread and its lease.
ROUND_S = 60.0
LOOK_AGAIN_S = 1.0
# What is still due after its step is not begun again at once.
AGAIN_AFTER_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """`run` may be called when somebody else did it meanwhile, and then changes nothing."""

    partner: str
    row_id: object
    run: Callable[[], None]


Find = Callable[[Collection[str], int], Sequence[Step]]


class _Worker:
    is_stopping = False


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop(**_: object) -> None:
    """In a signal handler: sets a flag, takes no lock. What is under way is waited for."""
    _Worker.is_stopping = True


def is_stopping() -> bool:
    """Whether this process takes up nothing more."""
    return _Worker.is_stopping


def attend(find: Find) -> None:
    """Run what `find` finds, until that is nothing. It is given the partners of whom it is to find
    nothing, and how many steps it may find; the longest due come first."""
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="round")
    try:
        _Round(find, pool).run()
    finally:
        pool.shutdown(wait=False)


class _Round:
    def __init__(self, find: Find, pool: ThreadPoolExecutor) -> None:
        self._find = find
        self._pool = pool
        self._running: dict[Future[None], tuple[Step, float]] = {}
        self._hanging: set[str] = set()
        self._begun: dict[object, float] = {}

    def run(self) -> None:
        began = time.monotonic()
        while (now := time.monotonic()) - began < ROUND_S:
            self._note_hanging(now)
            if not is_stopping():
                self._begin_due(now)
            if not self._running:
                return
            done, _ = wait(self._running, LOOK_AGAIN_S, return_when=FIRST_COMPLETED)
            self._note_hanging(time.monotonic())
            for future in done:
                del self._running[future]
                future.result()

    def _note_hanging(self, now: float) -> None:
        for step, began in self._running.values():
            if now - began > PATIENCE_S and step.partner not in self._hanging:
                logger.warning("%s hangs, and is left alone in this round", step.partner)
                self._hanging.add(step.partner)

    def _begin_due(self, now: float) -> None:
        places = Counter(step.partner for step, _ in self._running.values())
        full = {each for each, taken in places.items() if taken >= AT_ONCE_OF_A_PARTNER}
        for step in self._find(self._hanging | full, AT_ONCE):
            is_new = now - self._begun.get(step.row_id, 0.0) > AGAIN_AFTER_S
            has_place = places[step.partner] < AT_ONCE_OF_A_PARTNER and places.total() < AT_ONCE
            if is_new and has_place:
                places[step.partner] += 1
                self._begun[step.row_id] = now
                self._running[self._pool.submit(partial(_run, step))] = step, now


def _run(step: Step) -> None:
    """One row's trouble is not the next one's."""
    try:
        step.run()
    except Exception:
        logger.exception("%s failed; it is tried again when its lease ends", step.row_id)
    finally:
        connection.close()
