"""Django's backend, but that a pooled connection is looked at before it is lent, and not asked.

To ask costs a round trip for each of the three that an order takes. A server that ends a connection
says so on it, or closes it: its socket has something to read then. From one that has vanished
without a word no answer to a question would come, either.
"""

import select
from typing import Any

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        while self.pool and _has_ended(connection):
            connection.close()
            self.pool.putconn(connection)  # which replaces it
            connection = super().get_new_connection(conn_params)
        return connection


def _has_ended(connection: Any) -> bool:
    """Of an idle connection, to which its server has nothing else to say."""
    if connection.closed:
        return True
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    return bool(socket.poll(0))
