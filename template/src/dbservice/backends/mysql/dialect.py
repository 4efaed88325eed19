"""The SQLAlchemy dialect for reads on MySQL and MariaDB, and SQL comments that only one of the two executes."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql as my

from ..sql import ExactLike, OnlyRows


def mysql_only(sql: str) -> str:
    return f"/*!80000 {sql} */"  # MariaDB ignores versions from 50700 to 99999


def mariadb_only(sql: str) -> str:
    return f"/*M!100100 {sql} */"


def read_dialect(row_view: Callable[[str], str]) -> sa.Dialect:
    """The dialect for compiling reads. `row_view` names the view of a table of which the service has only some rows."""
    dialect: sa.Dialect = my.dialect(paramstyle="format")
    dialect.statement_compiler = _Compiler
    dialect._backslash_escapes = False  # type: ignore[attr-defined]
    dialect.row_view = row_view  # type: ignore[attr-defined]
    return dialect


class _Compiler(OnlyRows, ExactLike, my.base.MySQLCompiler):
    # without backslash escapes in the session, MySQL has no escape character in LIKE; MariaDB still has one, which can
    # only be replaced: NUL occurs in no text here
    no_escape = mariadb_only(" ESCAPE x'00'")

    def visit_nulls_first_op_unary_modifier(self, unary: Any, operator: Any, **options: Any) -> str:
        return f"{self._bare(unary, **options)} IS NOT NULL, {self.process(unary.element, **options)}"

    def visit_nulls_last_op_unary_modifier(self, unary: Any, operator: Any, **options: Any) -> str:
        return f"{self._bare(unary, **options)} IS NULL, {self.process(unary.element, **options)}"

    def _bare(self, clause: Any, **options: Any) -> str:
        while isinstance(clause, sa.UnaryExpression) and clause.modifier is not None:
            clause = clause.element
        return str(self.process(clause, **options))
