"""How reads are compiled for MySQL and MariaDB, and the comments by which only one of the two runs a part of a statement."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql as my

from ..sql import ExactLike


def mysql_only(words: str) -> str:
    return f"/*!80000 {words} */"  # MariaDB passes over versions from 50700 to 99999


def mariadb_only(words: str) -> str:
    return f"/*M!100100 {words} */"


def read_dialect() -> sa.Dialect:
    """The dialect reads are compiled with."""
    dialect: sa.Dialect = my.dialect(paramstyle="format")
    dialect.statement_compiler = _Compiler
    dialect._backslash_escapes = False  # type: ignore[attr-defined]
    return dialect


class _Compiler(ExactLike, my.base.MySQLCompiler):
    # in a session without backslash escapes MySQL has none in LIKE either; MariaDB has, and takes one character only:
    # one that no text here can hold
    no_escape = mariadb_only(" ESCAPE x'00'")

    def visit_nulls_first_op_unary_modifier(self, unary: Any, operator: Any, **options: Any) -> str:
        return f"{self._bare(unary, **options)} IS NOT NULL, {self.process(unary.element, **options)}"

    def visit_nulls_last_op_unary_modifier(self, unary: Any, operator: Any, **options: Any) -> str:
        return f"{self._bare(unary, **options)} IS NULL, {self.process(unary.element, **options)}"

    def _bare(self, clause: Any, **options: Any) -> str:
        while isinstance(clause, sa.UnaryExpression) and clause.modifier is not None:
            clause = clause.element
        return str(self.process(clause, **options))
