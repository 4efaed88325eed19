"""Queries: SELECT statements, checked once and compiled once per backend."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from itertools import starmap
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, overload

import sqlalchemy as sa

from ..backends.interface import Backend, Convert
from ..errors import BadValue
from ..schema import Row
from ..types import BigInteger, ColumnType, Integer
from .portability import check_portable, check_row_count, check_values, row_count_parameters

P = ParamSpec("P")


R = TypeVar("R", bound=Row)


Statement: TypeAlias = sa.Select[*tuple[Any, ...]]
"""The return type of a function that `query` decorates: a SELECT of any columns."""


Encoder = tuple[str, Any, Callable[[Any], Any] | None, Callable[[Any], Any] | None]


class Query(Generic[P, R]):
    """A SELECT with the parameters `P` and rows of type `R`; created by `query`. Compiled once per engine, at first use."""

    def __init__(
        self,
        row: type[R],
        statement: Statement,
        parameters: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        names = [column.key for column in statement.selected_columns]
        if tuple(names) != row.columns():
            raise TypeError(
                f"{row.__name__} has the columns {list(row.columns())}, the statement selects {names}"
            )
        check_portable(statement)  # first: a programming error must not be reported as a client's
        check_values(statement)
        self.row, self.statement = row, statement
        self.parameters, self.defaults = tuple(parameters), dict(defaults or {})
        self._compiled: dict[str, CompiledQuery] = {}
        self.page_readers: dict[str, Any] = {}

    def for_backend(self, backend: Backend) -> "CompiledQuery":
        return self._compiled.get(backend.name) or self._compiled.setdefault(
            backend.name, CompiledQuery(self.statement, self.defaults, backend)
        )

    def by_name(self, arguments: Sequence[Any], values: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call, by parameter. Raises TypeError for too many arguments or a duplicate name."""
        named = dict(zip(self.parameters, arguments, strict=False))
        if len(arguments) > len(self.parameters) or named.keys() & values.keys():
            raise TypeError(
                f"the query takes {list(self.parameters)}, not {len(arguments)} arguments and {sorted(values)}"
            )
        return named | values


@overload
def query(row: type[R]) -> Callable[[Callable[P, Statement]], Query[P, R]]: ...
@overload
def query(row: type[R], statement: Statement) -> Query[..., R]: ...
def query(row: type[R], statement: Statement | None = None) -> Any:
    """A query that selects the columns of `row`, in its order.

    `@query(UserRow)` decorates a function that returns the statement: it is called once, at decoration, with a placeholder
    for each parameter, so no `if` can depend on one; type checkers check `reads.one(user_by_id, id=5)` against its
    signature. `query(UserRow, statement)` takes a statement whose parameters are `bindparam`s.

    Raises TypeError for a programming error: columns that differ from `row`, or a statement that the engines would not
    compute alike (incompatible types, a function that is not portable, a value of unknown type). Raises BadValue, 422 for a
    client, for a value in the statement that its column, LIMIT or OFFSET does not accept, as a read does for a parameter.
    SQLAlchemy converts arguments of `.limit()` and `.offset()` to whole numbers ("1" and 1.5 to 1); a `bindparam` rejects
    them."""
    return Query(row, statement) if statement is not None else functools.partial(_decorated, row)


def _decorated(row: type[R], function: Callable[P, Statement]) -> Query[P, R]:
    parameters = inspect.signature(function).parameters
    try:
        hints = typing.get_type_hints(function)
    except NameError:  # a name imported for type checkers only; in_() detects a list itself
        hints = {}
    placeholders: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{function.__name__}: write every parameter by its name, instead of *{name}")
        many = typing.get_origin(hints.get(name)) in (list, Sequence)
        placeholders[name] = sa.bindparam(name, expanding=many)
    signature = inspect.signature(function).bind(**placeholders)
    try:
        statement = function(*signature.args, **signature.kwargs)
    except TypeError as error:
        if "Boolean value of this clause" not in str(error):
            raise
        raise TypeError(
            f"{function.__name__}: its parameters are placeholders here and have no values; write one query for each case"
        ) from error
    used = {each.key for each in sa.sql.visitors.iterate(statement) if isinstance(each, sa.BindParameter)}
    if unused := parameters.keys() - used:
        raise TypeError(f"{function.__name__}: the statement does not use {', '.join(sorted(unused))}")
    defaults = {
        name: each.default for name, each in parameters.items() if each.default is not inspect.Parameter.empty
    }
    made: Query[P, R] = Query(row, statement, tuple(parameters), defaults)
    made.__doc__ = function.__doc__
    return made


class Rows(list[R]):
    """The rows of a query: their values have the types of the columns, so the JSON encoder does not check them."""

    __slots__ = ()


class CompiledQuery:
    """A query for one engine. Its rows have the columns `decoded`, by default those that `statement` selects."""

    def __init__(
        self,
        statement: Statement,
        defaults: Mapping[str, Any],
        backend: Backend,
        decoded: Sequence[sa.ColumnElement[Any]] | None = None,
    ) -> None:
        compiled = statement.compile(dialect=backend.dialect())
        self.sql = str(compiled)
        assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
        self._encoders: list[Encoder] = []
        self.names: set[str] = set()
        row_counts = row_count_parameters(statement)
        for name in compiled.positiontup or ():
            bind = compiled.binds[name]
            if bind.expanding:
                raise TypeError("an IN list has no fixed text: use several queries, or a join")
            if bind.required:
                self.names.add(bind.key)
            column_type = bind.type if isinstance(bind.type, ColumnType) else None
            encode = backend.codec.to_driver(column_type) if column_type else None
            check = column_type.parameter if column_type else backend.codec.parameter
            if bind.key in row_counts:
                check, encode = check_row_count, None
            self._encoders.append((bind.key, defaults.get(bind.key, bind.effective_value), check, encode))
        self._required = self.names - defaults.keys()
        columns = statement.selected_columns if decoded is None else decoded
        decoders = ((i, _decoder(column, backend)) for i, column in enumerate(columns))
        self._decoders = [(i, decode) for i, decode in decoders if decode is not None]

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        """The encoded arguments for the driver, in order. Raises TypeError for a missing or unknown name, BadValue for a value
        that its column does not accept."""
        if values.keys() != self.names and not self._required <= values.keys() <= self.names:
            raise TypeError(f"the query takes {sorted(self.names)}, not {sorted(values)}")
        arguments = []
        for key, fixed, check, encode in self._encoders:
            value = values.get(key, fixed)
            if check is not None and (value is not None or check is check_row_count):
                try:
                    value = check(value)  # on MySQL, 0 equals almost every string
                except ValueError as error:
                    raise BadValue(key, str(error)) from None
                if encode is not None:
                    value = encode(value)
            arguments.append(value)
        return arguments

    def rows(self, row: type[R], records: Sequence[Sequence[Any]]) -> Rows[R]:
        if not self._decoders:
            return Rows(starmap(row, records))
        answer: Rows[R] = Rows()
        for record in records:
            values = list(record)
            for i, decode in self._decoders:
                if values[i] is not None:
                    values[i] = decode(values[i])
            answer.append(row(*values))
        return answer


def _decoder(column: sa.ColumnElement[Any], backend: Backend) -> Convert | None:
    """The function that decodes the driver's value of a selected column, or None. For computed integers and booleans,
    drivers return other types."""
    column_type = column.type
    decode = backend.codec.from_driver(column_type) if isinstance(column_type, ColumnType) else None
    while isinstance(column, sa.Label):
        column = column.element
    if isinstance(column, sa.Column):
        return decode
    if isinstance(column_type, sa.Boolean):
        return bool
    if not isinstance(column_type, Integer | BigInteger | sa.Integer):
        return decode

    def whole(value: Any) -> int:
        value = decode(value) if decode else value
        if isinstance(value, float):  # SQLite's result of an integer overflow
            raise BadValue("a computed value", "is a whole number of more than 64 bits")
        return int(value)

    return whole
