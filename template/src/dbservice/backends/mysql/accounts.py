"""Accounts on MySQL and MariaDB: what is declared as SQL, and what a server really holds.

One text serves both servers, and names the few places where they differ in comments that only one of them executes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...accounts.declared import VERBS, Declared, TableAccess
from ...accounts.facts import Fact
from ..interface import Accounts
from ..sql import quoted
from .held import existing_accounts, held, is_mariadb, seen_accounts, without_other_installations
from .names import account_name, name, qualified
from .own_account import excess, lacks
from .passwords import NO_PASSWORD, NO_PASSWORD_MARIADB, NO_PASSWORD_MYSQL, identified
from .row_views import row_views, view_account, view_fact, views_of

_MIGRATION_VERBS = (*VERBS, "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES")
"""On the tables of the service, by name: they may be missing, and are dropped and made again."""
_MIGRATIONS = 8
"""The connection limit of the migration account: two for each `migrate` (one holds the lock), and one that cancels."""


@dataclass(frozen=True)
class _Grant:
    """Verbs for an account on one table or view, in all columns or in some."""

    account: str
    kind: str
    table: str
    verbs: tuple[str, ...]
    columns: tuple[str, ...] = ()

    def facts(self, declared: Declared, *, exists: bool) -> list[Fact]:
        target, account = qualified(declared, self.table), account_name(self.account)
        found = []
        for verb in self.verbs:
            if self.columns and verb != "DELETE":  # which has no columns
                found += [
                    Fact(
                        self.account,
                        f"{verb} on column {self.table}.{each}",
                        statements=(f"GRANT {verb} ({name(each)}) ON {target} TO {account}",),
                    )
                    for each in self.columns
                ]
                continue
            statements = self._grants([verb], target, account, exists=exists)
            found.append(Fact(self.account, f"{verb} on {self.kind} {self.table}", statements=statements))
        return found

    def statements(self, declared: Declared, *, exists: bool) -> tuple[str, ...]:
        """The same in as few statements as possible."""
        columns = ", ".join(map(name, self.columns))
        verbs = [f"{each} ({columns})" if columns and each != "DELETE" else each for each in self.verbs]
        return self._grants(verbs, qualified(declared, self.table), account_name(self.account), exists=exists)

    def _grants(self, verbs: Sequence[str], target: str, account: str, *, exists: bool) -> tuple[str, ...]:
        if exists or "CREATE" in verbs:
            return (f"GRANT {', '.join(verbs)} ON {target} TO {account}",)
        # the servers let only those who may create a table be granted something on a missing one
        grant = f"GRANT {', '.join(verbs)}, CREATE ON {target} TO {account}"
        return (grant,) if "CREATE" in self.verbs else (grant, f"REVOKE CREATE ON {target} FROM {account}")


class MySQLAccounts(Accounts):
    # --- what is declared

    def script(self, declared: Declared) -> str:
        lines = [_HEADER.format(declared.service)]
        lines += [line for account in declared.accounts for line in _create_in_script(account)]
        for account in declared.accounts:
            lines += ["", f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account_name(account)};"]
            facts = [each for each in self.of_accounts(declared) if each.account == account]
            lines += [f"{statement};" for each in facts for statement in each.statements]
            grants = [each for each in self._of_own(declared) if each.account == account]
            lines += [f"{each};" for grant in grants for each in grant.statements(declared, exists=False)]
        if row_views(declared):
            account = view_account(declared)
            lines += ["", *_create_in_script(account), f"ALTER USER {account_name(account)} ACCOUNT LOCK;"]
            lines += [f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account_name(account)};"]
        for each in declared.shared:
            lines += ["", *_if_there_is(declared, each, self._statements_of_shared(declared, each))]
        return "\n".join(lines) + "\n"

    def of_accounts(self, declared: Declared) -> list[Fact]:
        facts = []
        for account in declared.accounts:
            alter = f"ALTER USER {account_name(account)}"
            limit = declared.connections if account == declared.runtime else _MIGRATIONS
            facts += [
                Fact(account, "ACCOUNT UNLOCK", statements=(f"{alter} ACCOUNT UNLOCK",)),
                Fact(
                    account,
                    f"MAX_USER_CONNECTIONS {limit}",
                    statements=(f"{alter} WITH MAX_USER_CONNECTIONS {limit}",),
                ),
            ]
            if declared.require_ssl:
                facts.append(Fact(account, "REQUIRE SSL", statements=(f"{alter} REQUIRE SSL",)))
        return [*facts, *([self._view_account(declared)] if row_views(declared) else [])]

    def of_tables(self, declared: Declared, existing: Sequence[str]) -> list[Fact]:
        facts = [
            fact
            for each in self._of_own(declared)
            for fact in each.facts(declared, exists=each.table in existing)
        ]
        shared = [each for each in declared.shared if each.table in existing]
        return facts + [fact for each in shared for fact in self._facts_of_shared(declared, each)]

    def after_migration(self, declared: Declared, existing: Sequence[str]) -> list[str]:
        return []  # grants are made before their tables, and stay when these are dropped

    def _of_own(self, declared: Declared) -> list[_Grant]:
        if not declared.migrate:
            return []
        found = []
        # the version table first: who holds that is known as this service, in each database that has one
        runtime = {declared.version_table: VERBS[:1], **dict.fromkeys(declared.own, VERBS)}
        for table in (*runtime, *declared.former, declared.journal, declared.lock_table):
            found.append(_Grant(declared.migrate, "table", table, _MIGRATION_VERBS))
            if table in runtime:
                found.append(_Grant(declared.runtime, "table", table, runtime[table]))
        return found + [
            _Grant(declared.migrate, "table", table, ("REFERENCES",)) for table in declared.references
        ]

    def _facts_of_shared(self, declared: Declared, access: TableAccess) -> list[Fact]:
        table, views = self._of_shared(declared, access)
        facts = table.facts(declared, exists=True)
        for view in views:
            facts += [view_fact(declared, view.table, access), *view.facts(declared, exists=True)]
        return facts

    def _statements_of_shared(self, declared: Declared, access: TableAccess) -> list[str]:
        table, views = self._of_shared(declared, access)
        statements = [*table.statements(declared, exists=True)]
        for view in views:
            statements += view_fact(declared, view.table, access).statements
            statements += view.statements(declared, exists=True)
        return statements

    def _of_shared(self, declared: Declared, access: TableAccess) -> tuple[_Grant, list[_Grant]]:
        """What is granted on the table, and on the views of its rows where there are some."""
        if not access.rows:
            return _Grant(declared.runtime, "table", access.table, access.verbs, access.columns), []
        inserts = "INSERT" in access.verbs
        views = views_of(access.table, declared.package, inserts=inserts)
        verbs = (tuple(each for each in access.verbs if each != "INSERT"), ("INSERT",))
        return (
            _Grant(view_account(declared), "table", access.table, access.verbs, access.columns),
            [
                _Grant(declared.runtime, "view", *each)
                for each in zip(views, verbs[: len(views)], strict=True)
            ],
        )

    def _view_account(self, declared: Declared) -> Fact:
        account = view_account(declared)
        lock = f"ALTER USER {account_name(account)} ACCOUNT LOCK"
        return Fact(account, "ACCOUNT LOCK", statements=(*self.create_account(account), lock))

    # --- what a server holds

    def existing_tables(self, cursor: Any, declared: Declared) -> list[str]:
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'"
            " ORDER BY table_name",
            [declared.database],
        )
        return [row[0] for row in cursor.fetchall()]

    def existing_accounts(self, cursor: Any, declared: Declared) -> list[str]:
        if is_mariadb(cursor):  # what another node of its cluster was told before, this one must have heard
            cursor.execute("SET SESSION wsrep_sync_wait = 15")
        return existing_accounts(cursor, declared)

    def seen_accounts(self, cursor: Any, declared: Declared) -> list[str]:
        return seen_accounts(cursor, declared)

    def held(self, cursor: Any, declared: Declared) -> list[Fact]:
        existing = self.existing_tables(cursor, declared)
        # what was granted before a table was dropped is there when its owner makes it again
        missing = [each for each in declared.shared if each.table not in existing]
        kept = {fact for each in missing for fact in self._facts_of_shared(declared, each)}
        facts = [each for each in held(cursor, declared) if each not in kept]
        wanted = self.of_tables(declared, [each.table for each in declared.shared])
        return without_other_installations(facts, declared, wanted)

    def excess(self, cursor: Any, declared: Declared) -> str:
        return excess(cursor, declared)

    def lacks(self, cursor: Any, declared: Declared, account: str) -> list[str]:
        wanted = self.of_tables(declared, [each.table for each in declared.shared])
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", [declared.database]
        )
        existing = [row[0] for row in cursor.fetchall()]
        return lacks(
            cursor, declared, [each for each in wanted if each.account == declared.runtime], existing
        )

    # --- what an administrator runs

    def create_account(self, account: str) -> list[str]:
        return [f"CREATE USER IF NOT EXISTS {account_name(account)} {NO_PASSWORD}"]

    @contextmanager
    def only_here(self, cursor: Any) -> Iterator[None]:
        if not is_mariadb(cursor):
            yield
            return
        cursor.execute("SET SESSION wsrep_on = OFF")
        try:
            yield
        finally:
            cursor.execute("SET SESSION wsrep_on = ON")

    def password_statement(self, connection: Any, account: str, password: str) -> str:
        clause = identified(password, mariadb=is_mariadb(connection.cursor()))
        return f"ALTER USER {account_name(account)} {clause}"


_HEADER = """\
-- Accounts of the service {0}, as `python -m` prints them by `grants`: do not edit.
-- Run it as an administrator, any number of times, before or after the tables of this and of other services exist. The
-- accounts lose all privileges and get them back at once: for a service under load, `grants --apply` changes only what
-- differs. It sets no password: `grants --apply` does, or ALTER USER ... IDENTIFIED BY.
SET NAMES utf8mb4;
SET SESSION sql_mode = CONCAT_WS(',', @@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES');
"""


def _create_in_script(account: str) -> list[str]:
    """CREATE USER as a script runs it: a client of MySQL strips the comments that only MariaDB executes."""
    create = f"CREATE USER IF NOT EXISTS {account_name(account)}"
    mariadb, mysql = (quoted(f"{create} {each}") for each in (NO_PASSWORD_MARIADB, NO_PASSWORD_MYSQL))
    return [f"SET @statement = IF(VERSION() LIKE '%MariaDB%', {mariadb}, {mysql});", _EXECUTE]


def _if_there_is(declared: Declared, access: TableAccess, statements: Sequence[str]) -> list[str]:
    """The statements as a script runs them if the table exists and has the columns."""
    columns = ", ".join(map(quoted, access.columns))
    missing = f"table {access.table} does not exist yet or lacks a column: run this again when it does"
    lines = [
        "SET @there = (SELECT COUNT(*) FROM information_schema.columns WHERE"
        f" table_schema = {quoted(declared.database)} AND table_name = {quoted(access.table)}"
        f" AND column_name IN ({columns})) = {len(access.columns)};",
        f"SET @statement = IF(@there, 'DO 0', {quoted(f'SELECT {quoted(missing)} AS notice')});",
        _EXECUTE,
    ]
    for each in statements:
        lines += [f"SET @statement = IF(@there, {quoted(each)}, 'DO 0');", _EXECUTE]
    return lines


_EXECUTE = "PREPARE statement FROM @statement; EXECUTE statement; DEALLOCATE PREPARE statement;"
