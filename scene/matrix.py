"""Every account tries everything, straight at the server, and is allowed exactly what is declared."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import psycopg2
import pymysql

from dbservice.accounts.declared import Declared
from dbservice.testing import servers

from .attempts import Attempt, Target, attempts, name

ALLOWED, DENIED = "allowed", "denied"


class Result(NamedTuple):
    """What the server made of an attempt."""

    attempt: Attempt
    outcome: str
    """`allowed`, `denied`, or what the server said where it is neither."""

    @property
    def as_declared(self) -> bool:
        return self.outcome == (ALLOWED if self.attempt.allowed else DENIED)


class Login(NamedTuple):
    """How the accounts and the administrator reach the database."""

    server: servers.Server
    database: servers.Database
    passwords: Mapping[str, str]

    def connect(self, account: str) -> Any:
        """A connection of an account."""
        return replace(self.database, user=account, password=self.passwords[account]).connect()

    def administrator(self) -> Any:
        """A connection of the administrator, in autocommit mode."""
        server = self.server
        made = replace(self.database, user=server.user, password=server.password).connect()
        if self.database.type == "postgresql":
            made.autocommit = True
        else:
            made.autocommit(True)
        return made


def run(login: Login, declared: Sequence[Declared]) -> list[Result]:
    """Try everything as every account."""
    kind, results = login.database.type, []
    with closing(login.administrator()) as admin, _journals(login, declared), _Kept(admin, kind) as kept:
        targets = _targets(admin, kind, login.database.name)
        for own in declared:
            others = [each for other in declared if other is not own for each in other.accounts]
            for account in own.accounts:
                with closing(login.connect(account)) as connection:
                    for each in attempts(kind, account, own, others, targets):
                        results.append(Result(each, _try(connection, kind, each)))
                        if results[-1].outcome == ALLOWED and each.action in _LASTING:
                            kept.restore(each)
    return results


def outcome_of(error: Exception) -> str:
    """What an error says of the privilege."""
    if isinstance(error, psycopg2.Error):
        code = error.pgcode or ""
        if code == "42501" and "row-level security" not in str(error):
            return DENIED
        # a row that is none of the table or of the account, a table that exists
        return (
            ALLOWED if code.startswith("23") or code in ("42501", "42P07") else str(error).partition("\n")[0]
        )
    code = error.args[0]
    return DENIED if code in _DENIED else ALLOWED if code in _INVALID else str(error)


_DENIED = {1044, 1045, 1095, 1142, 1143, 1227, 1370, 1410, 1698, 1959, 3530}
"""Denied: a database, a login or a file, another's session, a table, a column, a global privilege, a routine, to make an
account by GRANT, to be another, a role."""
_INVALID = {1048, 1050, 1364, 1369, 1423, 1451, 1452, 1701, 3730}
"""A row that is none of the table or of the view, a table that exists, one that others refer to: the privilege was there."""
_LASTING = ("ALTER", "INDEX", "TRUNCATE", "DROP")


def _try(connection: Any, kind: str, attempt: Attempt) -> str:
    cursor = connection.cursor()
    if kind == "postgresql":  # what cannot be rolled back, which nobody may do, runs in no transaction
        connection.autocommit = attempt.action in ("DATABASE", "SETTINGS")
        del connection.notices[:]
    try:
        for statement in attempt.statements:
            cursor.execute(statement)
            if cursor.description:
                cursor.fetchall()
    except (psycopg2.Error, pymysql.Error) as error:
        return outcome_of(error)
    else:  # PostgreSQL's GRANT of what one may not grant
        notices = getattr(connection, "notices", ())
        return DENIED if any("no privileges were granted" in each for each in notices) else ALLOWED
    finally:
        connection.rollback()


def _targets(admin: Any, kind: str, database: str) -> list[Target]:
    schema = "public" if kind == "postgresql" else database
    cursor = admin.cursor()
    cursor.execute(
        "SELECT c.table_name, c.column_name, t.table_type FROM information_schema.columns c"
        " JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name"
        " WHERE c.table_schema = %s ORDER BY c.table_name, c.ordinal_position",
        [schema],
    )
    columns: dict[tuple[str, bool], list[str]] = {}
    for table, column, table_type in cursor.fetchall():
        columns.setdefault((table, table_type == "VIEW"), []).append(column)
    return [Target(table, tuple(names), is_view) for (table, is_view), names in columns.items()]


@contextmanager
def _journals(login: Login, declared: Sequence[Declared]) -> Iterator[None]:
    """The tables that `migrate` makes for a while on MySQL and MariaDB."""
    if login.database.type == "postgresql":
        yield
        return
    made = []
    for each in declared:
        for table in (each.journal, each.lock_table) if each.migrate else ():
            with closing(login.connect(each.migrate or "")) as connection:
                cursor = connection.cursor()
                if not cursor.execute("SHOW TABLES LIKE %s", [table]):  # a cluster keeps the lock
                    cursor.execute(f"CREATE TABLE {name(table, False)} (id BIGINT PRIMARY KEY)")
                    made.append((each.migrate or "", table))
    try:
        yield
    finally:
        for account, table in made:
            with closing(login.connect(account)) as connection:
                connection.cursor().execute(f"DROP TABLE {name(table, False)}")


class _Kept:
    """The tables as they were before the attempts: MySQL and MariaDB cannot roll back what an owner may do to them."""

    def __init__(self, admin: Any, kind: str) -> None:
        self._cursor, self._needed = admin.cursor(), kind != "postgresql"
        self._tables: dict[str, str] = {}

    def __enter__(self) -> "_Kept":
        if self._needed:
            self._cursor.execute("SET SESSION foreign_key_checks = 0")
            self._cursor.execute("CREATE DATABASE scene_kept")
            self._cursor.execute("SHOW FULL TABLES WHERE table_type = 'BASE TABLE'")
            for table, _ in self._cursor.fetchall():
                self._cursor.execute(f"SHOW CREATE TABLE {name(table, False)}")
                self._tables[table] = self._cursor.fetchone()[1]
                self._cursor.execute(
                    f"CREATE TABLE scene_kept.{name(table, False)} AS SELECT * FROM {name(table, False)}"
                )
        return self

    def __exit__(self, *_: object) -> None:
        if self._needed:
            self._cursor.execute("DROP DATABASE scene_kept")

    def restore(self, attempt: Attempt) -> None:
        """Undo an attempt."""
        if not self._needed:
            return
        table = name(attempt.table, False)
        self._cursor.execute(f"DROP TABLE IF EXISTS {table}")
        self._cursor.execute(self._tables[attempt.table])
        self._cursor.execute(f"INSERT INTO {table} SELECT * FROM scene_kept.{table}")
