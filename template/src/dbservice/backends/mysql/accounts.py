"""Accounts on MySQL and MariaDB: what is declared as SQL, and what a server really holds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...accounts.declared import Declared, TableAccess
from ...accounts.facts import Fact
from ..interface import Accounts, Asking
from .grants import of_own, of_references, of_shared
from .held import (
    existing_accounts,
    held,
    is_mariadb,
    other_owners,
    seen_accounts,
    without_other_installations,
)
from .names import account_name
from .own_account import ask_lacks, excess
from .passwords import NO_PASSWORD, identified
from .row_views import row_views, view_account, view_fact
from .script import script


class MySQLAccounts(Accounts):
    # --- what is declared

    def script(self, declared: Declared) -> str:
        return script(declared)

    def of_accounts(self, declared: Declared) -> list[Fact]:
        facts = []
        for account in declared.accounts:
            alter = f"ALTER USER {account_name(account)}"
            limit = declared.connections(account)
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
            for each in (*of_own(declared), *of_references(declared))
            for fact in each.facts(exists=each.table in existing)
        ]
        shared = [each for each in declared.shared if each.table in existing]
        return facts + [fact for each in shared for fact in self._of_shared(declared, each)]

    def after_migration(self, declared: Declared, existing: Sequence[str]) -> list[str]:
        return []  # grants are made before their tables, and stay when these are dropped

    def _of_shared(self, declared: Declared, access: TableAccess) -> list[Fact]:
        table, views = of_shared(declared, access)
        facts = table.facts(exists=True)
        for view in views:
            facts += [view_fact(declared, view.table, access), *view.facts(exists=True)]
        return facts

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

    def other_owners(self, cursor: Any, declared: Declared) -> dict[str, str]:
        return other_owners(cursor, declared)

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
        kept = {fact for each in missing for fact in self._of_shared(declared, each)}
        facts = [each for each in held(cursor, declared) if each not in kept]
        wanted = self.of_tables(declared, [each.table for each in declared.shared])
        return without_other_installations(facts, declared, wanted)

    def excess(self, cursor: Any, declared: Declared) -> str:
        return excess(cursor, declared)

    def connection_limit(self, cursor: Any) -> int | None:
        cursor.execute("SELECT @@SESSION.max_user_connections")
        return int(cursor.fetchone()[0]) or None

    def ask_lacks(self, declared: Declared, account: str) -> Asking:
        wanted = self.of_tables(declared, [each.table for each in declared.shared])
        return ask_lacks(declared, [each for each in wanted if each.account == declared.runtime])

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
