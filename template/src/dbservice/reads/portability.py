"""Checks that every engine computes a statement alike and accepts its values."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import elements, operators, visitors
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import GenerativeSelect

from .. import types as t
from ..errors import BadValue
from ..types import ColumnType

FOLDS = "the engines do not fold the same letters: keep the folded text in a column of its own"

_WHOLE, _FLOAT, _TEXT, _TRUTH = "a whole number", "a float", "text", "true or false"
_NUMBERS, _ORDERED = {_WHOLE, _FLOAT}, {_WHOLE, _FLOAT, _TEXT, t.Numeric, t.Date, t.Time, t.Timestamp}
_FAMILIES: dict[type[Any], str] = {
    **dict.fromkeys((t.Integer, t.BigInteger, t.Id, sa.Integer), _WHOLE),
    **dict.fromkeys((t.Float, sa.Float), _FLOAT),
    **dict.fromkeys((t.String, t.Text, t.Enum, sa.String), _TEXT),
    **dict.fromkeys((t.Boolean, sa.Boolean), _TRUTH),
}
_TYPES: dict[type[Any], ColumnType] = {
    bool: t.Boolean(),
    int: t.BigInteger(),
    float: t.Float(),
    str: t.Text(),
}
_FUNCTIONS: dict[str, set[Any]] = {
    "sum": {*_NUMBERS, t.Numeric},
    "min": _ORDERED,
    "max": _ORDERED,
    "abs": _NUMBERS,
    "avg": {_FLOAT},
    "char_length": {_TEXT},
}
"""The argument types for which a function returns the same on every engine; `count` and `coalesce` accept any."""
INSTEAD = {
    "avg": "select sum() and count(), and divide in Python",
    "length": "MySQL counts bytes, use char_length()",
    "lower": FOLDS,
    "upper": FOLDS,
}

_COMPARE = {operators.eq, operators.ne, operators.lt, operators.le, operators.gt, operators.ge}
_COMPARE |= {operators.between_op, operators.not_between_op, operators.in_op, operators.not_in_op}
_COMPARE |= {operators.is_distinct_from, operators.is_not_distinct_from}
_IS = {operators.is_, operators.is_not}
_RECKON = {operators.add, operators.sub, operators.mul}
_DIVIDE = {operators.truediv, operators.floordiv}
_LIKE, _FOLD = (
    {
        getattr(operators, f"{negated}{folding}{name}_op")
        for negated in ("", "not_")
        for name in ("like", "contains", "startswith", "endswith")
    }
    for folding in ("", "i")
)


def check_portable(statement: sa.SelectBase) -> None:
    """Raises TypeError if the engines would return different results for `statement`."""
    for element in visitors.iterate(statement):
        match element:
            case FunctionElement():
                _function(getattr(element, "name", "").lower(), list(element.clauses))
            case sa.Cast() if _ours(element.clause):
                raise TypeError(f"CAST of {element.clause.type!r}: the engines do not convert alike")
            case sa.Extract() if _ours(element.expr):
                raise TypeError(f"EXTRACT of {element.expr.type!r}: take it from the value in Python")
            case sa.Case():
                results = [result for _, result in element.whens]
                _one_family("CASE", results if element.else_ is None else [*results, element.else_])
            case sa.BinaryExpression():
                _binary(element)
            case sa.UnaryExpression() if element.operator is operators.neg and _ours(element.element):
                if _family(element.element) not in _NUMBERS:
                    raise TypeError(_arithmetic_differs([element.element]))
            case sa.CompoundSelect():
                for columns in zip(*[each.selected_columns for each in element.selects], strict=False):
                    _one_family("a set operation", columns)
            case sa.BindParameter() if not _ours(element):
                for value in _values(element):
                    _type_of(value)


def check_values(statement: sa.SelectBase) -> None:
    """Raises BadValue if a portable `statement` contains a value that its column, LIMIT or OFFSET does not accept."""
    names: dict[Any, str] = {}
    parameters: list[sa.BindParameter[Any]] = []
    for element in visitors.iterate(statement):
        match element:
            case GenerativeSelect():
                for name, parameter in _row_counts(element):
                    for value in _values(parameter):
                        _check_value(name, check_row_count, value)
            case sa.BinaryExpression():
                operands = [element.left, *_clauses(element.right)]
                column = next((str(each.key) for each in operands if isinstance(each, sa.ColumnClause)), None)
                names |= dict.fromkeys(operands, column) if column else {}
            case sa.BindParameter():
                parameters.append(element)
    for parameter in parameters:
        name = names.get(parameter, "a value") if parameter.unique else parameter.key
        for value in _values(parameter):
            column_type = parameter.type if isinstance(parameter.type, ColumnType) else _type_of(value)
            _check_value(name, column_type.parameter, value)


def row_count_parameters(statement: sa.SelectBase) -> set[str]:
    """The names of the LIMIT and OFFSET parameters of `statement`."""
    selects = [each for each in visitors.iterate(statement) if isinstance(each, GenerativeSelect)]
    return {parameter.key for select in selects for _, parameter in _row_counts(select)}


def check_row_count(value: Any, least: int = 0) -> int:
    """`value` for LIMIT or OFFSET. Raises ValueError if it is not a whole number from `least` to 2**63 - 1: SQLite reads -1
    as all rows, other engines round 1.5 or accept "5"."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    if not least <= value <= t.INT64:
        raise ValueError(f"must be between {least} and {t.INT64}")
    return int(value)


def _ours(element: Any) -> bool:
    return isinstance(element.type, ColumnType)


def _family(element: Any) -> Any:
    """The type's family for comparisons; None if it is unknown, as for a parameter or NULL."""
    kind = element.type
    if isinstance(kind, sa.types.NullType) or isinstance(element, sa.Null):
        return None
    if isinstance(kind, t.Numeric):
        return repr(kind)
    for each in type(kind).__mro__:
        if each in _FAMILIES:
            return _FAMILIES[each]
    return type(kind)


def _function(name: str, arguments: list[Any]) -> None:
    if not any(map(_ours, arguments)) or name == "count":
        return
    if name == "coalesce":
        _one_family("COALESCE", arguments)
        return
    for argument in arguments:
        family = type(argument.type) if isinstance(argument.type, t.Numeric) else _family(argument)
        if family is not None and family not in _FUNCTIONS.get(name, ()):
            instead = INSTEAD.get(name, "compute it in Python")
            raise TypeError(f"{name}() of {argument.type!r}: the engines do not compute it alike: {instead}")


def _binary(element: sa.BinaryExpression[Any]) -> None:
    operator, left = element.operator, element.left
    rights = _clauses(element.right)
    if not any(map(_ours, (left, *rights))):
        return
    families = {family for family in map(_family, (left, *rights)) if family is not None}
    if operator in _FOLD:
        raise TypeError(FOLDS)
    if operator in _DIVIDE and families <= _NUMBERS and _FLOAT not in families:
        raise TypeError("the engines do not divide whole numbers alike: divide in Python")
    if operator in _COMPARE:
        if t.JSON in families:
            raise TypeError("the engines do not compare JSON alike: compare it in Python")
        if len(families) > 1 and not families <= _NUMBERS:
            beside = next(each for each in rights if _family(each) != _family(left))
            raise TypeError(f"the engines do not compare {left.type!r} with {beside.type!r} alike")
        return
    allowed = (
        operator in _IS
        or (operator in _LIKE and families <= {_TEXT})
        or (operator in {*_RECKON, operators.truediv, operators.mod} and families <= _NUMBERS)
        or (operator is operators.concat_op and families <= {_TEXT})
    )
    if not allowed:
        raise TypeError(_arithmetic_differs([left, *rights]))


def _arithmetic_differs(elements: Sequence[Any]) -> str:
    kinds = " and ".join(sorted({repr(each.type) for each in elements if _ours(each)}))
    return f"arithmetic with {kinds} differs between the engines: compute it in Python"


def _clauses(element: Any) -> Sequence[Any]:
    element = element.element if isinstance(element, elements.Grouping) else element
    if isinstance(element, elements.ClauseList | elements.ExpressionClauseList):
        return list(element.clauses)
    return list(element.selected_columns) if isinstance(element, sa.Select) else [element]


def _one_family(what: str, elements: Sequence[Any]) -> None:
    known = [each for each in elements if _family(each) is not None]
    if any(map(_ours, known)) and len({_family(each) for each in known}) > 1:
        kinds = " and ".join(sorted({repr(each.type) for each in known}))
        raise TypeError(f"{what} mixes {kinds}: give a value its type with sa.literal(value, type)")


def _row_counts(select: Any) -> Iterator[tuple[str, sa.BindParameter[Any]]]:
    # SQLAlchemy has no public names for these
    for name, clause in (("limit", select._limit_clause), ("offset", select._offset_clause)):
        for element in () if clause is None else visitors.iterate(clause):
            if isinstance(element, sa.BindParameter):
                yield name, element


def _values(parameter: sa.BindParameter[Any]) -> Sequence[Any]:
    """The values of a parameter in the statement; none if each call passes them."""
    if parameter.value is None:
        return []
    return list(parameter.value) if parameter.expanding else [parameter.value]


def _type_of(value: Any) -> ColumnType:
    """The column type of a value without a column. Raises TypeError."""
    for each in type(value).__mro__:
        if each in _TYPES:
            return _TYPES[each]
    raise TypeError(f"{type(value).__name__} has no type of its own here: write sa.literal(value, type)")


def _check_value(name: str, check: Callable[[Any], Any], value: Any) -> None:
    try:
        check(value)
    except ValueError as error:
        raise BadValue(name, str(error)) from None
