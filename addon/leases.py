"""Leases that live as long as their holders: short ones, renewed while somebody works.

Whoever is killed holds nothing for longer than the rest of a lease; whoever waits for a slow
partner keeps it. One thread of each process renews all of them; a block that ends within
RENEWED_AFTER_S costs nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import DatabaseError, connection

logger = logging.getLogger(__name__)

RENEWED_AFTER_S = 2.0  # at most twice as long: the thread looks that often

Renew = Callable[[timedelta], bool]


@dataclass(kw_only=True, eq=False, slots=True)
class _Lease:
    renew: Renew
    renewed_at: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    has_ended: bool = False


_held: set[_Lease] = set()
_starting = threading.Lock()
_renewer: threading.Thread | None = None


@contextmanager
def kept(renew: Renew) -> Iterator[None]:
    """Call `renew` now and then until the block ends, with what the lease is to be longer by; once
    it says that the lease is lost, not again. No call of it is under way when the block has ended.
    """
    lease = _Lease(renew=renew, renewed_at=time.monotonic())
    _held.add(lease)
    _start_renewer()
    try:
        yield
    finally:
        _held.discard(lease)
        with lease.lock:
            lease.has_ended = True


def _start_renewer() -> None:
    global _renewer  # one of the process
    if _renewer is None or not _renewer.is_alive():  # a forked process has none of its parent's
        with _starting:
            if _renewer is None or not _renewer.is_alive():
                _renewer = threading.Thread(target=_renew_all, name="leases", daemon=True)
                _renewer.start()


def _renew_all() -> None:
    while True:
        time.sleep(RENEWED_AFTER_S)
        old = [each for each in list(_held) if _age_s(each) >= RENEWED_AFTER_S]
        for lease in old:
            with lease.lock:
                _renew(lease)
        if old:
            connection.close()


def _renew(lease: _Lease) -> None:
    if lease.has_ended:
        return
    age_s = _age_s(lease)
    try:
        lease.has_ended = not lease.renew(timedelta(seconds=age_s))
    except DatabaseError as error:
        logger.warning("a lease is not renewed: %r", error)
        return
    lease.renewed_at += age_s


def _age_s(lease: _Lease) -> float:
    return time.monotonic() - lease.renewed_at
