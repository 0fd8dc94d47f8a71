"""PostgreSQL's advisory locks: what only one process may do at a time, whichever it is."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections


@contextmanager
def alone(name: str) -> Iterator[bool]:
    """Whether no other run is at it; then none begins until the block ends, or its process does.
    Receivers that hang take one of the workers' threads so, and not all of them."""
    # A connection of its own: the lock is that of its session, and whoever calls another service
    # gives the thread's connection back meanwhile.
    holder = connections.create_connection(DEFAULT_DB_ALIAS)
    try:
        with holder.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [name])
            (is_alone,) = cursor.fetchone()
        try:
            yield is_alone
        finally:
            if is_alone:
                with holder.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock(hashtext(%s))", [name])
    finally:
        holder.close()
