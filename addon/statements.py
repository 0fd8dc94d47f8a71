"""Rows written by plain statements: the ORM takes longer to make one than PostgreSQL to run it.

For what every order of an add-on writes. Values are those of the models' fields; none is an
expression.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import Model

Values = Mapping[str, object]


def insert(row: Model) -> None:
    """Insert `row`, as its save() would. Raises IntegrityError."""
    _insert([row], "")


def insert_unless_there(row: Model) -> bool:
    """Insert `row`; False when a row is there that has its id or another of its unique values.

    One statement, and no savepoint. A parallel transaction that inserts such a row is waited for.
    """
    return _insert([row], "ON CONFLICT DO NOTHING") == 1


def insert_or_update(
    rows: Sequence[Model], *, unique: Sequence[str], changed: Sequence[str]
) -> None:
    """Insert `rows`; of those that are there by their `unique` fields, write the `changed`."""
    if not rows:
        return
    key = ", ".join(_column(rows[0], name) for name in unique)
    columns = [_column(rows[0], name) for name in changed]
    assignments = ", ".join(f"{column} = excluded.{column}" for column in columns)
    _insert(rows, f"ON CONFLICT ({key}) DO UPDATE SET {assignments}")


def update(model: type[Model], where: Values, changes: Values) -> int:
    """Write `changes` to the rows whose fields equal `where`; how many there were."""
    assignments, values = [], []
    for name, value in changes.items():
        assignments.append(f"{_column(model, name)} = %s")
        values.append(_prepared(model, name, value))
    conditions = []
    for name, value in where.items():
        if value is None:
            conditions.append(f"{_column(model, name)} IS NULL")
        else:
            conditions.append(f"{_column(model, name)} = %s")
            values.append(_prepared(model, name, value))
    statement = (
        f"UPDATE {_table(model)} SET {', '.join(assignments)} "  # noqa: S608 - names of our own
        f"WHERE {' AND '.join(conditions)}"
    )
    return _execute(statement, values)


def _insert(rows: Sequence[Model], otherwise: str) -> int:
    """How many were inserted."""
    fields = rows[0]._meta.concrete_fields
    columns = ", ".join(f'"{field.column}"' for field in fields)
    places = f"({', '.join(['%s'] * len(fields))})"
    values = [
        field.get_db_prep_save(field.pre_save(row, add=True), connection)
        for row in rows
        for field in fields
    ]
    statement = (
        f"INSERT INTO {_table(rows[0])} ({columns}) "  # noqa: S608 - names of our own
        f"VALUES {', '.join([places] * len(rows))} {otherwise}"
    )
    inserted = _execute(statement, values)
    for row in rows[:inserted]:
        row._state.adding, row._state.db = False, connection.alias
    return inserted


def _execute(statement: str, values: Sequence[Any]) -> int:
    """How many rows it wrote. An error spoils the transaction, as those of the ORM do."""
    with transaction.mark_for_rollback_on_error(), connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


def _table(model: type[Model] | Model) -> str:
    return f'"{model._meta.db_table}"'


def _column(model: type[Model] | Model, name: str) -> str:
    return f'"{_field(model, name).column}"'


def _prepared(model: type[Model], name: str, value: object) -> Any:
    plain = value.pk if isinstance(value, Model) else value
    return _field(model, name).get_db_prep_save(plain, connection)


def _field(model: type[Model] | Model, name: str) -> Any:
    return model._meta.get_field(name)
