"""What a read may compute in the database: only what every engine computes alike."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.functions import FunctionElement

from .types import BigInteger, ColumnType, Enum, Float, Id, Integer, String, Text

_AS_IT_IS = (Integer, BigInteger, Id, Float, String, Text, Enum)
"""What every engine holds as the value it is; of all else SQLite holds something that stands for it."""

FOLDS = "the engines do not fold the same letters: keep the folded text in a column of its own"
_FOLD = {
    getattr(operators, f"{negated}{name}_op")
    for negated in ("", "not_")
    for name in ("ilike", "icontains", "istartswith", "iendswith")
}
_DIVIDE = (operators.truediv, operators.floordiv)
_ALIKE = {"count", "sum", "min", "max", "coalesce"}
_NOT_ALIKE = {
    "avg": "every engine rounds it in its own way: select sum() and count(), and divide in Python",
    "lower": FOLDS,
    "upper": FOLDS,
    "length": "MySQL counts bytes: use char_length()",
}


def refuse_differences(statement: sa.Select[*tuple[Any, ...]]) -> None:
    """Raise TypeError where `statement` asks for what some engine would answer with another value."""
    for element in visitors.iterate(statement):
        match element:
            case FunctionElement():
                _function(getattr(element, "name", "").lower(), list(element.clauses))
            case sa.Cast():
                _function("cast", [element.clause])
            case sa.Extract():
                _function("extract", [element.expr])
            case sa.BinaryExpression() if element.operator in _DIVIDE:
                if not isinstance(element.left.type, Float) and not isinstance(element.right.type, Float):
                    raise TypeError("the engines do not divide whole numbers alike: divide in Python")
            case sa.BinaryExpression() if element.operator in _FOLD:
                raise TypeError(FOLDS)
            case sa.Case():
                results = [result for _, result in element.whens]
                _one_type("case", results if element.else_ is None else [*results, element.else_])


def _function(name: str, arguments: list[Any]) -> None:
    kinds = [argument.type for argument in arguments if isinstance(argument.type, ColumnType)]
    for kind in kinds:
        if not isinstance(kind, _AS_IT_IS) and name not in _ALIKE:
            raise TypeError(
                f"{name}() of {kind!r}: the engines do not compute it alike, compute it in Python"
            )
        if name in _NOT_ALIKE and not isinstance(kind, Float):
            raise TypeError(f"{name}() of {kind!r}: {_NOT_ALIKE[name]}")
    _one_type(name, arguments)


def _one_type(name: str, arguments: Iterable[Any]) -> None:
    arguments = [each for each in arguments if not isinstance(each, sa.Null)]
    for kind in (each.type for each in arguments):
        if isinstance(kind, ColumnType) and not isinstance(kind, _AS_IT_IS):
            for other in arguments:
                if repr(other.type) != repr(kind):
                    raise TypeError(
                        f"{name}() mixes {kind!r} with {other.type!r}: give a value its type with"
                        " sa.literal(value, type)"
                    )
