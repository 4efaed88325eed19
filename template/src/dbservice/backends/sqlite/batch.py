"""Altering a table on SQLite means copying it: our types and defaults are read back, values are converted."""

import json
import re
import sqlite3
import threading
from contextlib import suppress
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic.ddl._autogen import ComparisonResult
from alembic.ddl.sqlite import SQLiteImpl
from sqlalchemy.dialects.sqlite import pysqlite

from ... import types as t
from ...types import ColumnType, Default

_DIALECT = pysqlite.dialect()

_PLAIN: tuple[ColumnType, ...] = (
    *(t.Integer(), t.BigInteger(), t.Boolean(), t.Float(), t.Text(), t.Date()),
    *(t.Time(), t.Timestamp(), t.JSON(), t.Uuid(), t.Binary()),
)


@cache
def _by_name() -> dict[str, ColumnType]:
    return {column_type.compile(dialect=_DIALECT): column_type for column_type in _PLAIN}


def type_from_declaration(words: str) -> ColumnType | None:
    """The column type that SQLite's declaration stands for; an enum is a string here."""
    found = re.fullmatch(r"(VARCHAR|NUMERIC)\((\d+)(?:, (\d+))?\)", words)
    if not found:
        return _by_name().get(words)
    return t.String(int(found[2])) if found[1] == "VARCHAR" else t.Numeric(int(found[2]), int(found[3]))


def _enum(inspector: sa.Inspector, table: str, column: str, string: t.String) -> ColumnType:
    """The enum that a column is, told by its CHECK; a string where it has none."""
    condition = re.escape(_DIALECT.identifier_preparer.quote(column)) + r" IN \(('[^']*'(?:, '[^']*')*)\)"
    for check in inspector.get_check_constraints(table):
        if found := re.fullmatch(condition, check["sqltext"]):
            with suppress(ValueError):  # it may be a CHECK on a string
                enum = t.Enum(*re.findall(r"'([^']*)'", found[1]))
                return enum if enum.length == string.length else string
    return string


def _default(column_type: ColumnType, stored: Any) -> sa.DefaultClause | None:
    if stored is None:
        return None
    value = column_type.process_result_value(stored, _DIALECT)
    return sa.DefaultClause(Default(column_type, value, to_json_form(value)))


def to_json_form(value: Any) -> Any:
    """A Python value as the API's JSON writes it."""
    return msgspec.to_builtins(value, enc_hook=str)


class TypedSQLiteImpl(SQLiteImpl):
    """Alembic's SQLite, which knows our types: it reads them back, and converts what a value means."""

    __dialect__ = "sqlite"

    def autogen_column_reflect(self, inspector: sa.Inspector, table: sa.Table, column_info: Any) -> None:
        connection, column = self.connection, column_info
        assert connection is not None
        rows = connection.exec_driver_sql(
            f"PRAGMA table_info({_DIALECT.identifier_preparer.quote(table.name)})"
        )
        declared = {row[1]: row[2] for row in rows}[column["name"]]
        if column["primary_key"] and declared == "INTEGER":
            column["type"], column["identity"] = t.Id(), {}
            table.dialect_options["sqlite"]["autoincrement"] = True
        elif (found := type_from_declaration(declared)) is None:
            super().autogen_column_reflect(inspector, table, column)
        else:
            if isinstance(found, t.String):
                found = _enum(inspector, table.name, column["name"], found)
            column["type"] = found
            if column.get("default") is not None:
                column["default"] = _default(
                    found, connection.exec_driver_sql(f"SELECT {column['default']}").scalar()
                )

    def compare_check_constraint(
        self, metadata_constraint: sa.CheckConstraint, reflected_constraint: sa.CheckConstraint
    ) -> ComparisonResult:
        """By text, which SQLite keeps as it was written."""
        declared, existing = map(self._normalized_condition, (metadata_constraint, reflected_constraint))
        if declared == existing:
            return ComparisonResult.Equal()
        return ComparisonResult.Different(f"{existing} to {declared}")

    def _normalized_condition(self, check: sa.CheckConstraint) -> str:
        """The condition without differences in spaces, letter case and quotes around plain names."""
        parts = re.split(r"('(?:[^']|'')*')", self.render_ddl_sql_expr(check.sqltext).strip())
        for i in range(0, len(parts), 2):  # outside of strings
            part = re.sub(r'"([a-z_]\w*)"', r"\1", re.sub(r"\s+", " ", parts[i]))
            parts[i] = re.sub(r" ?([^\w ]) ?", r"\1", part).lower()
        return "".join(parts)

    def cast_for_batch_migrate(self, existing: Any, existing_transfer: Any, new_type: Any) -> None:
        if not isinstance(existing.type, ColumnType) or not isinstance(new_type, ColumnType):
            super().cast_for_batch_migrate(existing, existing_transfer, new_type)
            return
        old, new = (each.compile(dialect=_DIALECT) for each in (existing.type, new_type))
        if old != new:
            column = existing_transfer["expr"]
            words = (old, new, f"{column.table.name}.{column.name}")
            existing_transfer["expr"] = sa.func.dbservice_converted(
                column, *(sa.literal_column(f"'{each}'") for each in words)
            )


_refused: dict[int, str] = {}
"""Why a value is not converted, by thread: of what a function raises SQLite says only that it did."""


def explain_conversion_error(context: sa.ExceptionContext) -> BaseException | None:
    said = _refused.pop(threading.get_ident(), None)
    if not said or "user-defined function" not in str(context.original_exception):
        return None
    return sa.exc.IntegrityError(context.statement, None, sqlite3.IntegrityError(said), hide_parameters=True)


def convert_value(value: Any, old_name: str, new_name: str, column: str) -> Any:
    try:
        return _as_new_type(value, old_name, new_name)
    except ValueError as error:
        _refused[threading.get_ident()] = (
            f"{column} holds a value that {type_from_declaration(new_name)!r} does not take: {error}"
        )
        raise


def _as_new_type(value: Any, old_name: str, new_name: str) -> Any:
    old, new = type_from_declaration(old_name), type_from_declaration(new_name)
    if value is None or old is None or new is None:
        return value
    meant = old.process_result_value(value, _DIALECT)
    plain = to_json_form(meant)
    try:
        converted = new.from_json(plain)
    except ValueError:
        whole = isinstance(meant, Decimal) and meant == int(meant) and not isinstance(new, t.String | t.Text)
        converted = new.from_json(
            int(meant) if whole else plain if isinstance(plain, str) else json.dumps(plain)
        )
    return new.process_bind_param(converted, _DIALECT)
