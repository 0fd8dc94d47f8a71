"""Queries of the ORM that are made into SQL once a process: those that nearly every request asks.

For a row by its id, making the SQL costs several times what sending it and reading the row does.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any, Generic, TypeVar, TypeVarTuple

from django.db import connection
from django.db.models import Expression, QuerySet
from django.db.models.query import ModelIterable, get_related_populators
from django.db.models.sql.compiler import SQLCompiler
from django.db.transaction import TransactionManagementError

Arguments = TypeVarTuple("Arguments")
Row = TypeVar("Row")
Values = Sequence[Any]


class Parameter(Expression):
    """Stands where an argument of each run goes."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position

    def as_sql(  # type: ignore[override]  # its values are database values, not parameters
        self, compiler: SQLCompiler, connection: object
    ) -> tuple[str, list[Any]]:
        return "%s", [self]


class CompiledQuery(Generic[*Arguments, Row]):
    """The query that `build` makes of Parameters, run with arguments in their places.

    `build` may only hand what it gets to filters, and asks for rows of a model, with others by
    select_related(), or for tuples by values_list(). An argument is never None: nothing equals it.
    """

    def __init__(self, build: Callable[[*Arguments], QuerySet[Any, Row]]) -> None:
        self._build = build

    def all(self, *arguments: *Arguments) -> list[Row]:
        return list(self._rows(arguments))

    def first(self, *arguments: *Arguments) -> Row | None:
        """The first row in the order of the query, or the only one; None without any."""
        return next(self._rows(arguments), None)

    def _rows(self, arguments: Values) -> Iterator[Row]:
        compiled = self._compiled
        if compiled.locks and not connection.in_atomic_block:
            raise TransactionManagementError("a lock needs a transaction")
        with connection.cursor() as cursor:
            cursor.execute(compiled.sql, compiled.bind(arguments))
            rows = cursor.fetchall()
        return map(compiled.read, rows)

    @cached_property
    def _compiled(self) -> "_Compiled":
        build: Callable[..., QuerySet[Any, Row]] = self._build
        queryset = build(*map(Parameter, range(len(signature(build).parameters))))
        compiler = queryset.query.get_compiler(connection=connection)
        sql, values = compiler.as_sql()
        fields = [column[0] for column in compiler.select]
        return _Compiled(
            sql=sql,
            values=values,
            converters=compiler.get_converters(fields),
            as_row=_model_reader(compiler) if _asks_for_models(queryset) else tuple,
            locks=queryset.query.select_for_update,
        )


@dataclass(frozen=True, kw_only=True)
class _Compiled:
    sql: str
    values: Values  # a Parameter where an argument goes
    converters: dict[int, tuple[list[Callable[..., Any]], Expression]]
    as_row: Callable[[Values], Any]
    locks: bool

    def bind(self, arguments: Values) -> list[Any]:
        return [
            arguments[value.position] if isinstance(value, Parameter) else value
            for value in self.values
        ]

    def read(self, columns: Values) -> Any:
        converted = list(columns)
        for position, (converters, expression) in self.converters.items():
            for convert in converters:
                converted[position] = convert(converted[position], expression, connection)
        return self.as_row(converted)


def _asks_for_models(queryset: QuerySet[Any, Any]) -> bool:
    return queryset._iterable_class is ModelIterable


def _model_reader(compiler: SQLCompiler) -> Callable[[Values], Any]:
    """As ModelIterable reads them."""
    info = compiler.klass_info
    model, first, last = info["model"], info["select_fields"][0], info["select_fields"][-1]
    names = [column[0].target.attname for column in compiler.select[first : last + 1]]
    # The stubs are of a later Django.
    populators = get_related_populators(info, compiler.select, connection.alias)  # type: ignore[call-arg]

    def read(columns: Values) -> Any:
        row = model.from_db(connection.alias, names, columns[first : last + 1])
        for populator in populators:
            populator.populate(columns, row)
        return row

    return read
