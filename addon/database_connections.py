"""The connection to the database of whoever runs, lent by the pool of the process."""

from django.db import connection


def release_connection() -> None:
    """Give it back for now; the next query takes another. Within a transaction it is kept."""
    if not connection.in_atomic_block:
        connection.close()
