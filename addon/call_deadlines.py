"""A limit on the whole of an HTTP call. httpx has limits for connecting and for each read only: a
server that sends a byte now and then, be it of the headers, would keep a thread for ever.

One thread of a process watches all its calls. A timer for each would be a thread for each.
"""

import heapq
import logging
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

logger = logging.getLogger(__name__)

_CONNECTED = frozenset({"connection.connect_tcp.complete", "connection.start_tls.complete"})


class CallDeadline:
    """Shuts the connection of one request down when `seconds` have passed; the read then fails.

    The request needs `trace` as its extension of that name.
    """

    def __init__(self, seconds: float) -> None:
        self.has_passed = False
        self._seconds = seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_over = False

    def __enter__(self) -> Self:
        _watch(self, self._seconds)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._is_over = True
            self._socket = None

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What httpcore calls at each step of a request."""
        if event in _CONNECTED:
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self.has_passed:
                    self._shut_down()

    def expire(self) -> None:
        """The time is up: the call ends, unless it is over."""
        with self._lock:
            if not self._is_over:
                self.has_passed = True
                self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the other side was first
                # The plain socket's, below TLS: a reader of another thread wakes up by it.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


# By when they end, in monotonic seconds; those of calls that are over stay until then.
_watched: list[tuple[float, int, CallDeadline]] = []
_changed = threading.Condition()
_watcher: threading.Thread | None = None


def _watch(deadline: CallDeadline, seconds: float) -> None:
    global _watcher  # one of the process
    with _changed:
        entry = (time.monotonic() + seconds, id(deadline), deadline)
        heapq.heappush(_watched, entry)
        if _watcher is None or not _watcher.is_alive():  # a forked process has none of its parent's
            _watcher = threading.Thread(target=_expire_all, name="call deadlines", daemon=True)
            _watcher.start()
        elif _watched[0] is entry:
            _changed.notify()


def _expire_all() -> None:
    while True:
        deadline = _wait_for_next()
        try:
            deadline.expire()
        except Exception:  # the other calls are watched by this thread alone
            logger.exception("a call could not be ended")


def _wait_for_next() -> CallDeadline:
    with _changed:
        while not _watched or (left_s := _watched[0][0] - time.monotonic()) > 0:
            _changed.wait(left_s if _watched else None)
        return heapq.heappop(_watched)[2]
