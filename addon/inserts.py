"""Rows inserted by one plain statement; of a request that is repeated, or found to be there."""

from django.db import connection
from django.db.models import Model


def insert(row: Model) -> None:
    """Insert `row`, as its save() would, without what makes that slow. Raises IntegrityError."""
    _insert(row, "")


def insert_unless_there(row: Model) -> bool:
    """Insert `row`; False when a row is there that has its id or another of its unique values.

    One statement, and no savepoint. A parallel transaction that inserts such a row is waited for.
    """
    return _insert(row, " ON CONFLICT DO NOTHING")


def _insert(row: Model, otherwise: str) -> bool:
    fields = row._meta.concrete_fields
    values = [field.get_db_prep_save(field.pre_save(row, add=True), connection) for field in fields]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    statement = (
        f'INSERT INTO "{row._meta.db_table}" ({columns}) '  # noqa: S608 - names of our own
        f"VALUES ({', '.join(['%s'] * len(fields))}){otherwise}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        was_inserted = bool(cursor.rowcount)
    row._state.adding, row._state.db = not was_inserted, connection.alias
    return was_inserted
