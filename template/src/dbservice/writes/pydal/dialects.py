"""PyDAL's dialects, which write names in quotation marks, and an adapter's check of what PyDAL takes for SQL.

PyDAL executes strings in many places (`db("...")`, `orderby=`, `having=`, `like(escape=)`, `with_alias()`, any operand of an
expression), and a string may come from a request. So only what an operation listed here has returned counts as SQL."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydal.dialects.mysql import MySQLDialect
from pydal.dialects.postgre import PostgreDialect
from pydal.dialects.sqlite import SQLiteDialect
from pydal.objects import Expression, Field, Query, Select

from .checks import refuse_folding
from .fields import FieldType
from .tables import ServiceTable

REFUSED = (
    "takes columns, values or a nested_select(), not SQL: `db.executesql(sql, values)` runs SQL as it is"
)


class SQL(str):
    """SQL that an operation of PyDAL, or the platform, has written."""

    __slots__ = ()


class GuardedDialect:
    """Mixed into PyDAL's dialects: names are quoted whatever they contain, and names without quotes are checked."""

    quote_template: str
    column_names: frozenset[str] = frozenset()
    """Those of the service's columns, quoted."""
    insert_names: Mapping[str, str] = MappingProxyType({})
    """What is named instead of a table or view when rows are inserted, by its name; both quoted."""
    lower = upper = ilike = staticmethod(refuse_folding)

    def quote(self, val: Any) -> str:
        mark = self.quote_template[0]
        return f"{mark}{str.replace(val, mark, mark * 2)}{mark}"

    def alias(self, original: str, new: str) -> str:
        return f"{original} AS {self.quote(new)}"

    def cast(self, first: str, second: str, query_env: Any = None) -> str:
        """PyDAL's own cast of a number beside a text; `check_operation` refuses all others."""
        return f"CAST({first} AS {'CHAR' if second == 'LONGTEXT' else second})"

    def concat(self, *items: Any, **options: Any) -> str:
        return SQL(super().concat(*items, **options))  # type: ignore[misc]

    def replace(self, *items: Any, **options: Any) -> str:
        return SQL(super().replace(*items, **options))  # type: ignore[misc]

    def cte(self, tname: str, fields: str, sql: str, recursive: Any = None) -> str:
        for name in (tname, *fields.split(", ")):
            _check_name("cte", name)
        text: str = super().cte(tname, fields, sql, recursive)  # type: ignore[misc]
        return text


class GuardedSelect(Select):  # type: ignore[misc]
    """PyDAL's nested SELECT. Its text is not kept: it may refer to values that are sent with each statement."""

    def union(self, recursive: Any, union_type: str = "UNION") -> Any:
        made = recursive(self) if callable(recursive) and not isinstance(recursive, Select) else recursive
        selects = made if isinstance(made, list | tuple) else [made]
        if union_type not in ("UNION", "UNION ALL") or not all(isinstance(each, Select) for each in selects):
            raise TypeError("union() takes nested selects, and UNION or UNION ALL")
        return super().union(selects, union_type)

    def _compile(self, *args: Any, **options: Any) -> Any:
        self._sql_cache = None
        return super()._compile(*args, **options)


def check_column(dialect: Any, field: Any) -> None:
    """Raise TypeError unless it is a column of one of the service's tables, or of a nested SELECT."""
    is_known = field._rname in dialect.column_names or _is_quoted(dialect, field._rname)
    if not is_known or not isinstance(field._table, _TABLES):
        raise TypeError(f"{field.name}: columns are declared in tables.py")


def check_operation(dialect: Any, expression: Any) -> None:
    """Raise TypeError unless the expression, or condition, is a column or a listed operation of `dialect`."""
    if isinstance(expression, Field):
        check_column(dialect, expression)
        return
    operation = expression.op
    if isinstance(operation, SQL):
        return
    if isinstance(operation, str):
        raise TypeError(f"an expression {REFUSED}")
    name = getattr(operation, "__name__", "")
    if operation is refuse_folding:
        return  # it says itself what is wrong
    if getattr(operation, "__self__", None) is not dialect or name not in _OPERATIONS:
        raise TypeError(
            f"{name.strip('_')}: the engines have no such operation in common: compute it in Python"
        )
    if not isinstance(expression.first, _TABLES if name == "on" else (Expression, Query)):
        raise TypeError(f"{name} {REFUSED}")
    _check_argument(name, expression)


def check_operand(value: Any, field_type: Any) -> None:
    """Raise TypeError unless a value of this type becomes a literal; without a type, unless it is SQL already or a plain
    number."""
    if isinstance(field_type, FieldType):
        return
    if field_type:
        if field_type not in _PYDAL_TYPES:
            raise TypeError(f"PyDAL's type {field_type} is not used here: compare with a column of tables.py")
    elif type(value) not in (SQL, bool, int, float) and not (type(value) is str and value == "*"):
        raise TypeError(f"an expression or condition {REFUSED}; it cannot be {type(value).__name__}")


class PostgreSQLDialect(GuardedDialect, PostgreDialect):  # type: ignore[misc]
    def nulls_first(self, first: Any, query_env: Any = None) -> str:
        return f"{self.expand(first, query_env=query_env or {})} NULLS FIRST"

    def nulls_last(self, first: Any, query_env: Any = None) -> str:
        return f"{self.expand(first, query_env=query_env or {})} NULLS LAST"


class MariaDBDialect(GuardedDialect, MySQLDialect):  # type: ignore[misc]
    def insert(self, table: str, fields: str, values: str) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        sql: str = super().insert(self.insert_names.get(table, table), fields, values)
        return sql

    def length(self, val: Any, query_env: Any = None) -> str:
        return f"CHAR_LENGTH({self.expand(val, query_env=query_env or {})})"  # not in bytes


class LiteDialect(GuardedDialect, SQLiteDialect):  # type: ignore[misc]
    pass


_OPERATIONS = {
    *("_and", "_or", "_not", "eq", "ne", "lt", "lte", "gt", "gte", "belongs", "case"),
    *("like", "startswith", "endswith", "contains", "regexp", "concat", "replace", "length", "substring"),
    *("add", "sub", "mul", "div", "mod", "coalesce", "coalesce_zero", "aggregate", "count"),
    *("comma", "invert", "nulls_first", "nulls_last", "on", "_as"),
}
_TABLES = (ServiceTable, GuardedSelect)
_PYDAL_TYPES = {"id", "integer", "bigint", "double", "boolean", "string", "text"}


def _check_argument(name: str, expression: Any) -> None:
    """Check what the operation writes into its SQL without expanding it."""
    second = expression.second
    if name == "_as":
        _check_name("with_alias", second)
    elif name == "aggregate" and (
        type(second) is not str or second not in ("SUM", "MAX", "MIN", "AVG", "ABS")
    ):
        raise TypeError(f"an aggregate {REFUSED}")
    elif name == "belongs" and isinstance(second, str):
        raise TypeError(f"belongs() {REFUSED}")
    elif name == "like":
        escape = expression.optional_args.get("escape")
        if escape is not None and (type(escape) is not str or len(escape) != 1 or escape == "'"):
            raise TypeError("like(escape=) takes one character, not SQL")
    elif name == "substring":
        size = str(expression.first.len())
        for each in second:
            known = type(each) in (int, str) or isinstance(each, Expression)
            if not known or not re.fullmatch(r"[-() 0-9]*", str(each).replace(size, "")):
                raise TypeError("a part of a text takes whole numbers")


def _is_quoted(dialect: Any, name: Any) -> bool:
    mark = dialect.quote_template[0]
    return type(name) is str and bool(re.fullmatch(rf"{mark}(?:[^{mark}]|{mark}{mark})+{mark}", name))


def _check_name(where: str, name: Any) -> None:
    if type(name) is not str or not name.isidentifier():
        raise TypeError(f"{where}: {name!r} is not a name of letters, digits and underscores")
