"""The SQLAlchemy dialect for reads on PostgreSQL."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql import elements, operators
from sqlalchemy.sql.compiler import OPERATORS

from ... import types as t
from ..sql import ExactLike, OnlyRows


def read_dialect() -> sa.Dialect:
    """The dialect for compiling reads."""
    dialect: sa.Dialect = asyncpg_dialect()  # type: ignore[no-untyped-call]
    dialect.statement_compiler = _Compiler
    return dialect


class _Compiler(OnlyRows, ExactLike, pg.base.PGCompiler):
    def order_by_clause(self, select: Any, **options: Any) -> str:
        """Sorts NULL before all values, as the other engines do."""
        clauses = [_null_is_least(each) for each in select._order_by_clauses]
        return f" ORDER BY {', '.join(self.process(each, **options) for each in clauses)}" if clauses else ""

    def _in_64_bits(self, binary: Any, operator: Any, **options: Any) -> str:
        """Computes with 64 bits for every integer type, as the other engines do."""
        if isinstance(binary.left.type, t.Integer):
            binary = binary._clone()
            binary.left = sa.cast(binary.left, pg.BIGINT())
        return str(self._generate_generic_binary(binary, OPERATORS[operator], **options))

    visit_add_binary = visit_sub_binary = visit_mul_binary = _in_64_bits


def _null_is_least(clause: Any) -> Any:
    inner, modifiers = clause, set()
    while isinstance(inner, elements._label_reference) or getattr(inner, "modifier", None):
        modifiers.add(getattr(inner, "modifier", None))
        inner = inner.element
    if modifiers & {operators.nulls_first_op, operators.nulls_last_op}:
        return clause
    if isinstance(inner, sa.Column) and not inner.nullable:
        return clause  # so that its index can be used
    return sa.nulls_last(clause) if operators.desc_op in modifiers else sa.nulls_first(clause)
