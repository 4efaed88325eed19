"""What PyDAL's expressions may compute: only what all engines compute alike, and no SQL given as text."""

from typing import Any

from ...reads.portability import FOLDS, INSTEAD
from ...types import Float
from .fields import FieldType


def operation(expression: Any) -> str:
    """The name of an expression's operation; empty for a column."""
    return getattr(getattr(expression, "op", None), "__name__", "")


def refuse_folding(*_: Any, **__: Any) -> str:
    raise TypeError(f"{FOLDS}, or say case_sensitive=True")


def as_list(given: Any) -> Any:
    return given if isinstance(given, list | tuple) else [given]


def check_expression(expression: Any, beside: Any) -> None:
    """Raise TypeError where some engine would compute another value."""
    kind = expression.type
    op = operation(expression)
    if op == "aggregate" and expression.second == "AVG" and not isinstance(kind.column_type, Float):
        raise TypeError(f"avg() of {kind.column_type!r}: {INSTEAD['avg']}")
    if op in ("add", "sub", "mul", "div", "mod") and op not in kind.arithmetic_operators:
        raise TypeError(f"the engines compute with {kind.column_type!r} differently: compute it in Python")
    if beside == "string" and not kind.is_text:
        raise TypeError(f"{kind.column_type!r} is not text")
    if isinstance(beside, FieldType) and not beside.comparable_with(kind):
        raise TypeError(
            f"{beside.column_type!r} and {kind.column_type!r} cannot be compared or computed together"
        )
