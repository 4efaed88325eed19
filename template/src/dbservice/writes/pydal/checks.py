"""What PyDAL's expressions may compute: only what every engine computes alike, and never SQL given as text."""

from typing import Any

from ...reads.portability import FOLDS, INSTEAD
from ...types import Float
from .fields import ColumnField


def operation(expression: Any) -> str:
    """The name of what PyDAL does with the parts of an expression; empty for a column."""
    return getattr(expression.op, "__name__", "")


def refuse_folding(*_: Any, **__: Any) -> str:
    raise TypeError(f"{FOLDS}, or say case_sensitive=True")


def as_list(given: Any) -> Any:
    return given if isinstance(given, list | tuple) else [given]


def refuse_sql(name: str, given: Any) -> None:
    # PyDAL takes a string for SQL, which may well have come with a request
    if isinstance(given, str) and given != "<random>":
        raise TypeError(f"{name} takes columns, values or a nested_select(), not SQL")


def check_expression(expression: Any, beside: Any) -> None:
    """Raise TypeError for what some engine would answer with a wrong value."""
    kind = expression.type
    op = operation(expression)
    if op == "aggregate" and expression.second == "AVG" and not isinstance(kind.column_type, Float):
        raise TypeError(f"avg() of {kind.column_type!r}: {INSTEAD['avg']}")
    if op in ("add", "sub", "mul", "div", "mod") and op not in kind.arithmetic_operators:
        raise TypeError(f"the engines do not reckon alike with {kind.column_type!r}: compute it in Python")
    if beside == "string" and not kind.is_text:
        raise TypeError(f"{kind.column_type!r} is not text")
    if isinstance(beside, ColumnField) and not beside.comparable_with(kind):
        raise TypeError(f"{beside.column_type!r} and {kind.column_type!r} do not mix")
