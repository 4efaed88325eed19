"""Who can do what: every account tries everything on every table, straight at the server, and is allowed exactly what is
declared."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import psycopg2
import pymysql

from dbservice.accounts.declared import VERBS, Declared, row_view
from dbservice.testing import servers


class Attempt(NamedTuple):
    """One statement of one account."""

    account: str
    target: str
    """A table, a column as `table.column`, or `server` for what concerns no table."""
    action: str
    statements: tuple[str, ...]
    allowed: bool
    """Whether it is declared."""
    undo: tuple[str, ...] = ()
    """Statements that undo it, where the engine has no transactions for it."""


class Result(NamedTuple):
    """What the server said."""

    attempt: Attempt
    was_allowed: bool
    words: str


def run(
    server: servers.Server,
    database: servers.Database,
    declared: Sequence[Declared],
    passwords: dict[str, str],
) -> list[Result]:
    """Try everything as every account; the passwords are by account."""
    columns = _columns(server, database)
    results = []
    for each in declared:
        for account in each.accounts:
            login = servers.Database(
                database.type,
                database.name,
                server.host,
                server.port,
                account,
                passwords[account],
                database.engine,
            )
            with closing(login.connect()) as connection:
                for attempt in attempts(database.type, account, each, declared, columns):
                    results.append(_try(connection, database.type, attempt))
    return results


def attempts(
    kind: str, account: str, own: Declared, declared: Sequence[Declared], columns: dict[str, list[str]]
) -> Iterator[Attempt]:
    """Everything that `account` of the service `own` tries."""
    postgresql = kind == "postgresql"
    for table, names in columns.items():
        quoted = _name(table, postgresql)
        may = {verb for verb in VERBS if _declared(own, account, table, verb, None, kind)}
        owns = account == own.migrate and table in own.migrated
        for verb, statement in _statements(quoted, names, postgresql).items():
            yield Attempt(account, table, verb, (statement,), verb in may)
        for column in names:
            for verb, statement in _column_statements(quoted, _name(column, postgresql)).items():
                yield Attempt(
                    account,
                    f"{table}.{column}",
                    verb,
                    (statement,),
                    _declared(own, account, table, verb, column, kind),
                )
        for action, (statements, undo) in _definitions(quoted, names, postgresql).items():
            # what the owner may do is undone, except what would lose the table where nothing can be undone
            if owns and action in ("DROP", "TRUNCATE") and not postgresql:
                continue
            allowed = owns and not (action == "GRANT" and not postgresql)
            if action == "LOCK":  # whoever may delete rows may lock the table
                allowed = owns or _declared(own, account, table, "DELETE", None, kind)
            yield Attempt(account, table, action, statements, allowed, undo)
    others = [name for each in declared for name in each.accounts if name != account]
    for action, statement in _server_statements(others[0], postgresql).items():
        allowed = account == own.migrate and postgresql and action == "CREATE TABLE"
        yield Attempt(account, "server", action, (statement,), allowed)


def wrong(results: Sequence[Result]) -> list[Result]:
    """Those where the server and the declaration differ."""
    return [each for each in results if each.was_allowed != each.attempt.allowed]


def page(results: Sequence[Result]) -> str:
    """The results as a page: a row for each account and table, with what it may do."""
    lines = [f"{'account':32} {'table':32} may"]
    found: dict[tuple[str, str], list[str]] = {}
    for attempt, was_allowed, _ in results:
        table = attempt.target.partition(".")[0]
        cell = found.setdefault((attempt.account, table), [])
        column = attempt.target.partition(".")[2]
        if was_allowed:
            cell.append(f"{attempt.action}({column})" if column else attempt.action)
    for (account, table), allowed in found.items():
        whole = [each for each in allowed if "(" not in each]
        parts: dict[str, list[str]] = {}
        for each in allowed:
            verb, _, column = each.rstrip(")").partition("(")
            if column and verb not in whole:
                parts.setdefault(verb, []).append(column)
        shown = [*whole, *(f"{verb}({', '.join(names)})" for verb, names in parts.items())]
        lines.append(f"{account:32} {table:32} {', '.join(shown) or '-'}")
    count = sum(each.was_allowed for each in results)
    lines.append(
        f"{len(results)} attempts: {count} allowed, {len(results) - count} denied, {len(wrong(results))} not as declared"
    )
    for attempt, was_allowed, words in wrong(results):
        said = "was allowed" if was_allowed else f"was denied ({words})"
        lines.append(f"WRONG {attempt.account}: {attempt.action} on {attempt.target} {said}")
    return "\n".join(lines)


def _declared(own: Declared, account: str, table: str, verb: str, column: str | None, kind: str) -> bool:
    if account == own.migrate:
        return table in own.migrated
    if table in own.own:
        return True
    if table == own.version_table and own.migrate:
        return verb == "SELECT"
    for access in own.shared:
        view = row_view(access.table, own.package) if access.rows and kind != "postgresql" else access.table
        if table != view or verb not in access.verbs:
            continue
        if column is None:
            # of some columns only, unless it is a view of just these
            return verb == "DELETE" or view != access.table
        return column in access.columns
    return False


def _columns(server: servers.Server, database: servers.Database) -> dict[str, list[str]]:
    schema = "'public'" if server.type == "postgresql" else f"'{database.name}'"
    sql = (
        "SELECT table_name, column_name FROM information_schema.columns"
        f" WHERE table_schema = {schema} ORDER BY table_name, ordinal_position"
    )
    admin = servers.Database(
        server.type, database.name, server.host, server.port, server.user, server.password
    )
    found: dict[str, list[str]] = {}
    with closing(admin.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        for table, column in cursor.fetchall():
            found.setdefault(str(table), []).append(str(column))
    return found


def _statements(table: str, names: Sequence[str], postgresql: bool) -> dict[str, str]:
    columns = [_name(each, postgresql) for each in names]
    return {
        "SELECT": f"SELECT * FROM {table} LIMIT 1",
        "INSERT": f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('DEFAULT' for _ in columns)})",
        "UPDATE": f"UPDATE {table} SET {', '.join(f'{each} = DEFAULT' for each in columns)} WHERE 1 = 0",
        "DELETE": f"DELETE FROM {table} WHERE 1 = 0",
    }


def _column_statements(table: str, column: str) -> dict[str, str]:
    return {
        "SELECT": f"SELECT {column} FROM {table} LIMIT 1",
        "INSERT": f"INSERT INTO {table} ({column}) VALUES (DEFAULT)",
        "UPDATE": f"UPDATE {table} SET {column} = DEFAULT WHERE 1 = 0",
    }


def _definitions(
    table: str, names: Sequence[str], postgresql: bool
) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    column = _name(names[0], postgresql)
    found: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
        "TRUNCATE": ((f"TRUNCATE TABLE {table}",), ()),
        "ALTER": (
            (f"ALTER TABLE {table} ADD COLUMN scene_column INTEGER",),
            () if postgresql else (f"ALTER TABLE {table} DROP COLUMN scene_column",),
        ),
        "DROP": ((f"DROP TABLE {table}" + (" CASCADE" if postgresql else ""),), ()),
        "INDEX": (
            (f"CREATE INDEX scene_index ON {table} ({column})",),
            () if postgresql else (f"DROP INDEX scene_index ON {table}",),
        ),
        "GRANT": ((f"GRANT SELECT ON {table} TO {'PUBLIC' if postgresql else 'CURRENT_USER()'}",), ()),
    }
    if postgresql:
        found |= {
            "LOCK": ((f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",), ()),
            "CREATE POLICY": ((f"CREATE POLICY scene_policy ON {table} USING (true)",), ()),
            "DISABLE ROW SECURITY": ((f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",), ()),
            "OWNER": ((f"ALTER TABLE {table} OWNER TO CURRENT_USER",), ()),
        }
    return found


def _server_statements(other: str, postgresql: bool) -> dict[str, str]:
    if postgresql:
        return {
            "CREATE TABLE": "CREATE TABLE scene_table (id BIGINT)",
            "CREATE TEMP TABLE": "CREATE TEMP TABLE scene_table (id BIGINT)",
            "CREATE SCHEMA": "CREATE SCHEMA scene_schema",
            "CREATE ROLE": "CREATE ROLE scene_role",
            "SET ROLE": f'SET ROLE "{other}"',
            "SUPERUSER": "ALTER ROLE CURRENT_USER SUPERUSER",
            "READ FILES": "SELECT pg_read_file('PG_VERSION')",
            "COPY TO FILE": "COPY (SELECT 1) TO '/tmp/scene_file'",
            "COPY PROGRAM": "COPY (SELECT 1) TO PROGRAM 'true'",
            "SETTINGS": "SET log_min_error_statement = 'debug5'",
            "ALTER SYSTEM": "SELECT set_config('log_statement', 'all', false)",
            "FOREIGN DATA": "CREATE FOREIGN DATA WRAPPER scene_wrapper",
            "PASSWORDS": "SELECT rolpassword FROM pg_authid",
            "LANGUAGE": "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE internal AS 'int4pl'",
        }
    return {
        "CREATE TABLE": "CREATE TABLE scene_table (id BIGINT)",
        "CREATE TEMP TABLE": "CREATE TEMPORARY TABLE scene_table (id BIGINT)",
        "CREATE DATABASE": "CREATE DATABASE scene_database",
        "CREATE USER": "CREATE USER scene_user",
        "GRANT ALL": "GRANT ALL ON *.* TO CURRENT_USER()",
        "PROXY": f"GRANT PROXY ON '{other}' TO CURRENT_USER()",
        "READ FILES": "LOAD DATA INFILE '/etc/hostname' INTO TABLE scene_table",
        "OUTFILE": "SELECT 1 INTO OUTFILE '/tmp/scene_file'",
        "SETTINGS": "SET GLOBAL general_log = 1",
        "ACCOUNTS": "SELECT * FROM mysql.user",
        "CREATE VIEW": "CREATE VIEW scene_view AS SELECT 1",
        "CREATE PROCEDURE": "CREATE PROCEDURE scene_procedure() SELECT 1",
        "CREATE TRIGGER": "CREATE EVENT scene_event ON SCHEDULE EVERY 1 DAY DO SELECT 1",
        "SHUTDOWN": "FLUSH TABLES WITH READ LOCK",
    }


_DENIED_MYSQL = {1044, 1045, 1142, 1143, 1227, 1370, 1410, 1356, 1445, 1095, 1290, 1698, 1147, 1396, 1221}
"""Codes that mean a missing privilege."""


def _try(connection: Any, kind: str, attempt: Attempt) -> Result:
    cursor = connection.cursor()
    words, was_allowed = "", True
    try:
        for statement in attempt.statements:
            if kind == "postgresql":
                del connection.notices[:]
            cursor.execute(statement)
            if cursor.description:
                cursor.fetchall()
            if kind == "postgresql" and any(
                "no privileges were granted" in each for each in connection.notices
            ):
                was_allowed = False
    except psycopg2.Error as error:
        words = str(error).partition("\n")[0]
        was_allowed = error.pgcode != "42501" or "row-level security policy" in words
    except pymysql.Error as error:
        words = str(error)
        was_allowed = error.args[0] not in _DENIED_MYSQL
    connection.rollback()
    if kind == "mysql" and was_allowed:
        for statement in attempt.undo:
            cursor.execute(statement)
    return Result(attempt, was_allowed, words)


def _name(identifier: str, postgresql: bool) -> str:
    mark = '"' if postgresql else "`"
    return mark + identifier.replace(mark, mark * 2) + mark
