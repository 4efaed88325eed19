"""The script of a service's accounts on MySQL and MariaDB. One text serves both servers, and names neither the database nor
anything of the machine that prints it."""

from collections.abc import Sequence

from ...accounts.declared import Declared, TableAccess
from ...accounts.header import header
from ..sql import quoted
from .grants import of_own, of_references, of_shared
from .names import account_name
from .passwords import NO_PASSWORD_MARIADB, NO_PASSWORD_MYSQL
from .row_views import row_views, view_account, view_fact

_NO_DATABASE = "no database is selected: USE one, or name it after mysql"
"""As the name of a column, for the message of the error: a prepared statement cannot SIGNAL on MySQL."""
_EXECUTE = "PREPARE statement FROM @statement; EXECUTE statement; DEALLOCATE PREPARE statement;"


def script(declared: Declared) -> str:
    """The SQL that an administrator can run any number of times, before or after the tables exist; without passwords."""
    own = [f"{each};" for grant in of_own(declared) for each in grant.statements(exists=False)]
    others = [f"{each};" for grant in of_references(declared) for each in grant.statements(exists=False)]
    others += [line for each in declared.shared for line in _shared_table(declared, each)]
    lines = [
        *header(
            declared,
            engine="MySQL and MariaDB",
            command="mysql app_db < deploy/sql/accounts.sql",
            password="ALTER USER ... IDENTIFIED BY",
        ),
        "--",
        "-- The accounts lose all privileges first and have them back at the end: for a service under load, take `grants --apply`.",
        "",
        "SET NAMES utf8mb4;",
        "SET SESSION sql_mode = CONCAT_WS(',', @@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES');",
        f"SET @statement = IF(DATABASE() IS NULL, 'DO `{_NO_DATABASE}`', 'DO 0');",
        _EXECUTE,
        "",
        "-- Accounts",
        *(line for each in declared.accounts for line in _account(declared, each)),
        *(_view_account(declared) if row_views(declared) else []),
    ]
    if own:
        lines += [
            "",
            f"-- Tables of {declared.service}, which need not exist: only with CREATE can they be granted then",
            *own,
        ]
    if others:
        lines += ["", "-- Tables of other services", *others]
    return "\n".join(lines) + "\n"


def _account(declared: Declared, account: str) -> list[str]:
    ssl = " REQUIRE SSL" if declared.require_ssl else ""
    limit = f"WITH MAX_USER_CONNECTIONS {declared.connections(account)}"
    return [
        *_created(account),
        f"ALTER USER {account_name(account)}{ssl} {limit} ACCOUNT UNLOCK;",
        f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account_name(account)};",
    ]


def _view_account(declared: Declared) -> list[str]:
    """The account as which the views run; nobody logs in to it."""
    account = view_account(declared)
    return [
        *_created(account),
        f"ALTER USER {account_name(account)} ACCOUNT LOCK;",
        f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account_name(account)};",
    ]


def _created(account: str) -> list[str]:
    """CREATE USER as a script runs it: a client of MySQL strips the comments that only MariaDB executes."""
    create = f"CREATE USER IF NOT EXISTS {account_name(account)}"
    mariadb, mysql = (quoted(f"{create} {each}") for each in (NO_PASSWORD_MARIADB, NO_PASSWORD_MYSQL))
    return ["", f"SET @statement = IF(VERSION() LIKE '%MariaDB%', {mariadb}, {mysql});", _EXECUTE]


def _shared_table(declared: Declared, access: TableAccess) -> list[str]:
    """The grants, and the views of the rows where there are some, if the table exists and has the columns."""
    table, views = of_shared(declared, access)
    statements = [*table.statements(exists=True)]
    for view in views:
        statements += [*view_fact(declared, view.table, access).statements, *view.statements(exists=True)]
    columns = ", ".join(map(quoted, access.columns))
    missing = f"table {access.table} does not exist yet or lacks a column: run this again when it does"
    return [
        "",
        "SET @there = (SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE()"
        f" AND table_name = {quoted(access.table)} AND column_name IN ({columns})) = {len(access.columns)};",
        f"SET @statement = IF(@there, 'DO 0', {quoted(f'SELECT {quoted(missing)} AS notice')});",
        _EXECUTE,
        *_if_there(statements),
    ]


def _if_there(statements: Sequence[str]) -> list[str]:
    return [
        line
        for each in statements
        for line in (f"SET @statement = IF(@there, {quoted(each)}, 'DO 0');", _EXECUTE)
    ]
