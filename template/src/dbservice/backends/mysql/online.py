"""Alembic on MySQL and MariaDB: a table that is in use is changed while others write to it, or the change is refused.

Each change has the clause LOCK=NONE: the server picks the way that is quickest, and refuses instead of copying the table while
all its writers wait. A foreign key is added unchecked, which needs no copy, and then its rows are checked. Decision 30."""

import logging
import re
from contextlib import nullcontext, suppress
from typing import Any

import pymysql
import sqlalchemy as sa
from pymysql.constants import ER
from sqlalchemy import exc

from ..interface import UNCHECKED
from ..online import megabytes
from .ddl import drop_foreign_key_index
from .galera import is_galera
from .resumable import ResumableMySQLImpl

logger = logging.getLogger("alembic.runtime.migration")

_NOT_SUPPORTED = {1845, 1846}
"""The server cannot do it in this way, with or without a reason."""

_CHANGE = re.compile(
    r"\s*(?:ALTER\s+TABLE\s+`(?P<table>(?:[^`]|``)+)`\s+(?!RENAME\s+TO\b)|(?P<index>CREATE\s+(?:UNIQUE\s+)?INDEX)\s"
    r".*?\sON\s+`(?P<of>(?:[^`]|``)+)`)",
    re.IGNORECASE | re.DOTALL,
)

_DENIED = {ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR}


class OnlineMySQLImpl(ResumableMySQLImpl):
    __dialect__ = "mysql"

    def run(self, construct: Any, execution_options: Any, multiparams: Any, params: Any) -> Any:
        def plain() -> Any:
            return super(OnlineMySQLImpl, self).run(construct, execution_options, multiparams, params)

        if not isinstance(construct, sa.schema.ExecutableDDLElement):
            return plain()
        text = str(construct.compile(dialect=self.dialect))
        found = _CHANGE.match(text)
        table = found and (found["table"] or found["of"]).replace("``", "`")
        if not found or not table or not self.is_in_use(table):
            return plain()
        between = " " if found["index"] else ", "
        try:
            if self._stops_cluster(table) and self._is_instant(f"{text}{between}ALGORITHM=INSTANT", table):
                return None
            with self._unchecked_references(construct):
                return self._driver(f"{text}{between}LOCK=NONE")
        except exc.DBAPIError as error:
            if _code(error) not in _NOT_SUPPORTED:
                raise
        self.check_copy(table, text.replace("%%", "%"))
        return plain()

    def check_rows(self, construct: Any) -> None:
        key = getattr(construct, "element", None)
        if not isinstance(construct, sa.schema.AddConstraint) or not isinstance(key, sa.ForeignKeyConstraint):
            return
        if self.connection is None or not self.is_in_use(key.table) or not self._can_read_both(key):
            return
        if self._ask(f"SELECT 1{_orphans(key, self.dialect)} LIMIT 1"):
            name = str(self.dialect.identifier_preparer.format_constraint(key))
            table = self.dialect.identifier_preparer.format_table(key.table)
            self._driver(f"ALTER TABLE {table} DROP FOREIGN KEY {name}")
            drop_foreign_key_index(self.connection, key.table.name, name.strip("`").replace("``", "`"))
            columns = ", ".join(key.column_keys)
            original = pymysql.err.IntegrityError(
                ER.NO_REFERENCED_ROW_2,
                f"Cannot add the foreign key {name}: a row of {key.table.name} refers in {columns} to a row that does not exist",
            )
            raise exc.IntegrityError(str(construct), None, original, hide_parameters=True)

    def commit_batch(self) -> None:
        self._write("COMMIT")

    def table_size(self, table: str) -> int:
        return int(
            self._ask(
                "SELECT data_length + index_length FROM information_schema.tables WHERE table_schema = DATABASE()"
                " AND table_name = %s",
                table,
            )
            or 0
        )

    def _unchecked_references(self, construct: Any) -> "_Unchecked | nullcontext[None]":
        key = getattr(construct, "element", None)
        adds = isinstance(construct, sa.schema.AddConstraint) and isinstance(key, sa.ForeignKeyConstraint)
        return _Unchecked(self._driver) if adds and self._can_read_both(key) else nullcontext()

    def _can_read_both(self, key: Any) -> bool:
        """Whether the account may read the table that a foreign key refers to, which may be another service's."""
        try:
            self._ask(f"SELECT 1{_orphans(key, self.dialect)} AND FALSE")
        except exc.DBAPIError as error:
            if _code(error) not in _DENIED:
                raise
            return False
        return True

    def _stops_cluster(self, table: str) -> bool:
        """Whether a change of a table that takes its time stops all writers of a Galera cluster for so long."""
        assert self.connection is not None
        if self._galera is None:
            self._galera = is_galera(self.connection.connection.dbapi_connection)
        return self._galera and self.table_size(table) >= self.limits.large_table

    _galera: bool | None = None

    def _is_instant(self, sql: str, table: str) -> bool:
        """Whether the server has executed `sql`, which asks for ALGORITHM=INSTANT. Else it is said what the change costs."""
        try:
            self._driver(sql)
        except exc.DBAPIError as error:
            if _code(error) not in _NOT_SUPPORTED:
                raise
            logger.warning(
                "the next statement changes %s (%s), and a Galera cluster takes no writes to any table meanwhile, on any node:"
                " if that is too long, interrupt now, and change the table with pt-online-schema-change or gh-ost, or node by"
                " node with wsrep_OSU_method = RSU",
                *(table, megabytes(self.table_size(table))),
            )
            return False
        return True

    def _driver(self, sql: str) -> Any:
        assert self.connection is not None
        return self.connection.exec_driver_sql(sql)

    def _ask(self, sql: str, *values: str) -> Any:
        assert self.connection is not None
        return self.connection.exec_driver_sql(sql, values, execution_options=UNCHECKED).scalar()


class OnlineMariaDBImpl(OnlineMySQLImpl):
    __dialect__ = "mariadb"


class _Unchecked:
    """In the block, the server does not check the rows of a new foreign key."""

    def __init__(self, execute: Any) -> None:
        self._execute = execute

    def __enter__(self) -> None:
        self._execute("SET SESSION foreign_key_checks = 0")

    def __exit__(self, *error: Any) -> None:
        with suppress(exc.DBAPIError):  # without its connection, the session is over
            self._execute("SET SESSION foreign_key_checks = 1")


def _orphans(key: sa.ForeignKeyConstraint, dialect: sa.Dialect) -> str:
    """FROM and WHERE of the rows that refer to no row."""
    quote = dialect.identifier_preparer.quote
    pairs = [
        (quote(each.parent.name), quote(each.target_fullname.rpartition(".")[2])) for each in key.elements
    ]
    parent = quote(key.elements[0].target_fullname.rpartition(".")[0])
    same = " AND ".join(f"parent.{there} = child.{here}" for here, there in pairs)
    there = " AND ".join(f"child.{here} IS NOT NULL" for here, _ in pairs)
    return (
        f" FROM {quote(key.table.name)} AS child LEFT JOIN {parent} AS parent ON {same} WHERE {there}"
        f" AND parent.{pairs[0][1]} IS NULL"
    )


def _code(error: exc.DBAPIError) -> Any:
    return error.orig.args[0] if error.orig and error.orig.args else None
