"""Django's backend, but that a pooled connection is looked at before it is lent, and seldom asked.

To ask costs a round trip for each of the three that an order takes. A server that ends a connection
says so on it, or closes it: its socket has something to read then. Only one that has lain idle for
long is asked: its server's host, or something between, may have forgotten it without a word.
"""

import select
import time
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool

ASKED_AFTER_S = 30.0

_idle_since: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection, pool = super().get_new_connection(conn_params), self.pool
        while pool and _has_ended(connection):
            connection.close()
            pool.putconn(connection)  # which replaces it
            connection = super().get_new_connection(conn_params)
        return connection

    def _close(self) -> Any:
        if self.connection is not None:
            _idle_since[self.connection] = time.monotonic()
        return super()._close()  # type: ignore[misc]  # the stubs leave it out


def _has_ended(connection: Any) -> bool:
    """Of an idle connection, to which its server has nothing else to say."""
    if connection.closed:
        return True
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    if socket.poll(0):
        return True
    if time.monotonic() - _idle_since.get(connection, 0.0) < ASKED_AFTER_S:
        return False
    try:
        ConnectionPool.check_connection(connection)
    except psycopg.Error:
        return True
    return False
