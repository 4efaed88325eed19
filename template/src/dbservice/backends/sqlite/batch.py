"""Alembic on SQLite, which alters a table by copying it: reflects our types and defaults, converts values."""

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
from sqlalchemy import exc
from sqlalchemy.dialects.sqlite import pysqlite

from ... import types as t
from ...types import ColumnType, Default

_DIALECT = pysqlite.dialect()

_PLAIN: tuple[ColumnType, ...] = (
    *(t.Integer(), t.BigInteger(), t.Boolean(), t.Float(), t.Text(), t.Date()),
    *(t.Time(), t.Timestamp(), t.JSON(), t.Uuid(), t.Binary()),
)


@cache
def _types_by_declaration() -> dict[str, ColumnType]:
    return {column_type.compile(dialect=_DIALECT): column_type for column_type in _PLAIN}


def type_from_declaration(declaration: str) -> ColumnType | None:
    """The column type that SQLite's `declaration` was written for, None for another one; a string for an enum."""
    found = re.fullmatch(r"(VARCHAR|NUMERIC)\((\d+)(?:, (\d+))?\)", declaration)
    if not found:
        return _types_by_declaration().get(declaration)
    return t.String(int(found[2])) if found[1] == "VARCHAR" else t.Numeric(int(found[2]), int(found[3]))


def _reflected_enum(inspector: sa.Inspector, table: str, column: str, string: t.String) -> ColumnType:
    """The enum of a string column with an enum's CHECK; the string if there is none."""
    condition = re.escape(_DIALECT.identifier_preparer.quote(column)) + r" IN \(('[^']*'(?:, '[^']*')*)\)"
    for check in inspector.get_check_constraints(table):
        if found := re.fullmatch(condition, check["sqltext"]):
            with suppress(ValueError):  # it may be a CHECK on a string
                enum = t.Enum(*re.findall(r"'([^']*)'", found[1]))
                return enum if enum.length == string.length else string
    return string


def _reflected_default(column_type: ColumnType, stored: Any) -> sa.DefaultClause | None:
    if stored is None:
        return None
    value = column_type.process_result_value(stored, _DIALECT)
    return sa.DefaultClause(Default(column_type, value, to_json_form(value)))


def to_json_form(value: Any) -> Any:
    """A Python value as the API's JSON writes it."""
    return msgspec.to_builtins(value, enc_hook=str)


class TypedSQLiteImpl(SQLiteImpl):
    """Alembic's SQLite with our column types."""

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
                found = _reflected_enum(inspector, table.name, column["name"], found)
            column["type"] = found
            if column.get("default") is not None:
                column["default"] = _reflected_default(
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
            arguments = (old, new, f"{column.table.name}.{column.name}")
            existing_transfer["expr"] = sa.func.dbservice_converted(
                column, *(sa.literal_column(f"'{each}'") for each in arguments)
            )


_conversion_errors: dict[int, str] = {}
"""By thread, why a value was not converted: SQLite does not pass on what a function raises."""


def explain_conversion_error(context: sa.ExceptionContext) -> BaseException | None:
    """The error of a statement with the message of the value that it could not convert; None for any other error."""
    message = _conversion_errors.pop(threading.get_ident(), None)
    if not message or "user-defined function" not in str(context.original_exception):
        return None
    return exc.IntegrityError(context.statement, None, sqlite3.IntegrityError(message), hide_parameters=True)


def convert_value(value: Any, old_name: str, new_name: str, column: str) -> Any:
    """The SQL function that converts a stored value from one declaration to another."""
    try:
        return _as_new_type(value, old_name, new_name)
    except ValueError as error:
        _conversion_errors[threading.get_ident()] = (
            f"{column} holds a value that {type_from_declaration(new_name)!r} cannot hold: {error}"
        )
        raise


def _as_new_type(value: Any, old_name: str, new_name: str) -> Any:
    old, new = type_from_declaration(old_name), type_from_declaration(new_name)
    if value is None or old is None or new is None:
        return value
    decoded = old.process_result_value(value, _DIALECT)
    plain = to_json_form(decoded)
    try:
        converted = new.from_json(plain)
    except ValueError:
        whole = (
            isinstance(decoded, Decimal)
            and decoded == int(decoded)
            and not isinstance(new, t.String | t.Text)
        )
        converted = new.from_json(
            int(decoded) if whole else plain if isinstance(plain, str) else json.dumps(plain)
        )
    return new.process_bind_param(converted, _DIALECT)
