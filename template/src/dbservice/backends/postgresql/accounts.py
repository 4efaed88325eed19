"""Accounts on PostgreSQL: roles, grants, row security, and what a server really holds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...accounts.declared import MIGRATE, VERBS, Declared, TableAccess
from ...accounts.facts import Fact
from ..interface import Accounts, Asking
from ..sql import quoted
from .policies import condition_of, held_policies, normalized, row_policies
from .privileges import (
    LOG_SETTINGS,
    default_privileges,
    held_attributes,
    held_default_privileges,
    held_grants,
    held_memberships,
    held_of_default_privileges,
    held_ownership,
    held_settings,
    not_settable,
    settings_of,
)
from .script import owners_to_join, script
from .session import identifier


class PostgreSQLAccounts(Accounts):
    # --- what is declared

    def script(self, declared: Declared) -> str:
        return script(declared)

    def of_accounts(self, declared: Declared) -> list[Fact]:
        schema = identifier(declared.schema)
        facts = []
        for account in declared.accounts:
            limit, role = declared.connections(account), identifier(account)
            facts += [
                Fact(account, "LOGIN", statements=(f"ALTER ROLE {role} LOGIN",)),
                Fact(
                    account,
                    f"CONNECTION LIMIT {limit}",
                    statements=(f"ALTER ROLE {role} CONNECTION LIMIT {limit}",),
                ),
                *(
                    Fact(
                        account,
                        f"SET {name} = {value}",
                        statements=(f"ALTER ROLE {role} SET {name} = {quoted(value)}",),
                    )
                    for name, value in settings_of(declared, account).items()
                ),
                Fact(
                    account,
                    f"CONNECT on database {declared.database}",
                    statements=(f"GRANT CONNECT ON DATABASE {identifier(declared.database)} TO {role}",),
                ),
                Fact(
                    account,
                    f"USAGE on schema {declared.schema}",
                    statements=(f"GRANT USAGE ON SCHEMA {schema} TO {role}",),
                ),
            ]
        if declared.migrate:
            facts.append(
                Fact(
                    declared.migrate,
                    f"CREATE on schema {declared.schema}",
                    statements=(f"GRANT CREATE ON SCHEMA {schema} TO {identifier(declared.migrate)}",),
                )
            )
            facts += default_privileges(declared.migrate)
        return facts

    def of_tables(self, declared: Declared, existing: Sequence[str]) -> list[Fact]:
        by_table = self._by_table(declared)
        return [fact for table in existing if table in by_table for fact in by_table[table]]

    def after_migration(self, declared: Declared, existing: Sequence[str]) -> list[str]:
        """What the migration account grants on its own tables: new tables need no visit of the administrator."""
        facts = self.of_tables(declared, [each for each in existing if each in declared.migrated])
        return [each for fact in facts if fact.account == declared.runtime for each in fact.statements]

    def _by_table(self, declared: Declared) -> dict[str, list[Fact]]:
        found: dict[str, list[Fact]] = {}
        for table in declared.migrated:
            assert declared.migrate
            target = self._qualified(declared, table)
            verbs = VERBS if table in declared.own else ("SELECT",)
            found[table] = [
                Fact(
                    declared.migrate,
                    f"OWNER of table {table}",
                    statements=(
                        f"ALTER TABLE {target} OWNER TO {identifier(declared.migrate)}",
                        f"GRANT ALL ON {target} TO {identifier(declared.migrate)}",
                    ),
                ),
                *(
                    Fact(
                        declared.runtime,
                        f"{verb} on table {table}",
                        statements=(f"GRANT {verb} ON {target} TO {identifier(declared.runtime)}",),
                    )
                    for verb in verbs
                ),
            ]
        for each in declared.shared:
            found[each.table] = self._of_shared(declared, each)
        for table, columns in declared.references.items():
            assert declared.migrate
            on = f"({', '.join(map(identifier, columns))}) ON {self._qualified(declared, table)}"
            grant = f"GRANT REFERENCES {on} TO {identifier(declared.migrate)}"
            texts = [f"REFERENCES on column {table}.{column}" for column in columns]
            found.setdefault(table, []).extend(
                Fact(declared.migrate, each, statements=(grant,)) for each in texts
            )
        return found

    def _of_shared(self, declared: Declared, access: TableAccess) -> list[Fact]:
        target, role = self._qualified(declared, access.table), identifier(declared.runtime)
        facts = []
        for verb in access.verbs:
            if verb == "DELETE":
                facts.append(
                    Fact(
                        declared.runtime,
                        f"DELETE on table {access.table}",
                        statements=(f"GRANT DELETE ON {target} TO {role}",),
                    )
                )
                continue
            facts += [
                Fact(
                    declared.runtime,
                    f"{verb} on column {access.table}.{column}",
                    statements=(f"GRANT {verb} ({identifier(column)}) ON {target} TO {role}",),
                )
                for column in access.columns
            ]
        if access.rows:
            facts.append(self._of_rows(declared, access))
        return facts

    def _of_rows(self, declared: Declared, access: TableAccess) -> Fact:
        return Fact(
            declared.runtime,
            f"only rows of {access.table} where {normalized(condition_of(access))}",
            statements=row_policies(declared, access),
        )

    def _qualified(self, declared: Declared, table: str) -> str:
        return f"{identifier(declared.schema)}.{identifier(table)}"

    # --- what a server holds

    def existing_tables(self, cursor: Any, declared: Declared) -> list[str]:
        cursor.execute(
            "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relkind IN ('r', 'p')"
            " ORDER BY relname",
            [declared.schema],
        )
        return [row[0] for row in cursor.fetchall()]

    def other_owners(self, cursor: Any, declared: Declared) -> dict[str, str]:
        cursor.execute(
            "SELECT relname, rolname FROM pg_class JOIN pg_roles r ON r.oid = relowner WHERE relname = ANY(%s)"
            " AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)"
            " AND rolname LIKE %s AND rolname <> %s ORDER BY relname",
            [list(declared.migrated), declared.schema, f"%{MIGRATE}", declared.migrate],
        )
        return dict(cursor.fetchall())

    def existing_accounts(self, cursor: Any, declared: Declared) -> list[str]:
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(declared.accounts)])
        return [row[0] for row in cursor.fetchall()]

    def create_account(self, account: str) -> list[str]:
        return [f"CREATE ROLE {identifier(account)} NOINHERIT"]

    def create_schema(self, declared: Declared) -> list[str]:
        return [f"CREATE SCHEMA IF NOT EXISTS {identifier(declared.schema)}"]

    def password_statement(self, connection: Any, account: str, password: str) -> str:
        # the verifier, and not the password, is what the statement holds: a log or pg_stat_activity may show it
        from psycopg2.extensions import encrypt_password

        verifier = encrypt_password(password, account, scope=connection, algorithm="scram-sha-256")
        return f"ALTER ROLE {identifier(account)} PASSWORD {quoted(verifier)}"

    def held(self, cursor: Any, declared: Declared) -> list[Fact]:
        # it drops them when it has the revision that does
        former = [f"OWNER of table {each}" for each in declared.former]
        existing = self.existing_accounts(cursor, declared)
        facts = [
            fact
            for account in existing
            for fact in (
                *held_attributes(cursor, declared, account),
                *held_memberships(cursor, account),
                *held_grants(cursor, account, declared.schema),
                *held_ownership(cursor, account, declared.schema),
                *held_default_privileges(cursor, account),
            )
            if not (account == declared.migrate and fact.text in former)
        ]
        if declared.migrate in existing:
            facts += held_of_default_privileges(cursor, declared.migrate)
        return facts + held_policies(cursor, declared)

    def not_settable(self, cursor: Any, declared: Declared) -> str:
        names = not_settable(cursor)
        lacking = [
            account
            for account in self.existing_accounts(cursor, declared)
            if {(name, LOG_SETTINGS[name]) for name in names}
            - {(name, value) for database, name, value in held_settings(cursor, account) if not database}
        ]
        if not lacking:
            return ""
        return f"{', '.join(lacking)}: SET {', '.join(names)}: only a superuser may, or who has SET on these parameters"

    @contextmanager
    def administering(self, cursor: Any, declared: Declared) -> Iterator[None]:
        # only as a member of the role that owns a table, a superuser aside, may an administrator grant something on it
        cursor.execute(owners_to_join(declared))
        owners = cursor.fetchone()[0]
        if not owners:
            yield
            return
        cursor.execute(f"GRANT {owners} TO CURRENT_USER")
        try:
            yield
        finally:
            cursor.execute(f"REVOKE {owners} FROM CURRENT_USER")

    def excess(self, cursor: Any, declared: Declared) -> str:
        tables = [*declared.own, declared.version_table, *(each.table for each in declared.shared)]
        cursor.execute(
            """
            SELECT rolsuper, rolbypassrls, rolcreaterole,
                pg_has_role(oid, (SELECT datdba FROM pg_database WHERE datname = current_database()), 'MEMBER'),
                has_schema_privilege(%(schema)s, 'CREATE'),
                ARRAY(SELECT rolname::text FROM pg_roles WHERE (rolsuper OR rolbypassrls) AND pg_has_role(oid, 'MEMBER') ORDER BY 1),
                ARRAY(SELECT relname::text FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s) AND relname = ANY(%(tables)s)
                    AND pg_has_role(relowner, 'MEMBER') ORDER BY 1)
            FROM pg_roles WHERE rolname = current_user
            """,
            {"schema": declared.schema, "tables": tables},
        )
        superuser, sees_all, creates_roles, owns_database, creates, powerful, owned = cursor.fetchone()
        reasons = {
            "it is a superuser": superuser,
            "it sees past row security (BYPASSRLS)": sees_all,
            f"it is a member of {', '.join(powerful)}, which sees past row security": powerful,
            f"it owns {', '.join(owned)}": owned,
            "it owns the database": owns_database,
            "it may create roles (CREATEROLE)": creates_roles,
            f"it may create tables in the schema {declared.schema}": creates,
        }
        return next((sentence for sentence, holds in reasons.items() if holds), "")

    def connection_limit(self, cursor: Any) -> int | None:
        cursor.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user")
        limit = int(cursor.fetchone()[0])
        return limit if limit >= 0 else None

    def ask_lacks(self, declared: Declared, account: str) -> Asking:
        wanted = [(verb, table, "") for table in declared.own for verb in VERBS]
        wanted += [("SELECT", declared.version_table, "")] if declared.own else []
        for access in declared.shared:
            for verb in access.verbs:
                columns = ("",) if verb == "DELETE" else access.columns
                wanted += [(verb, access.table, column) for column in columns]
        if not wanted:
            return []
        values = ", ".join(f"({', '.join(map(quoted, each))})" for each in wanted)
        of = f"{quoted(account)}, c.oid"
        rows = yield f"""
            SELECT verb, name, part FROM (VALUES {values}) AS w(verb, name, part)
                JOIN pg_class c ON relname = name
                    AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = {quoted(declared.schema)})
            WHERE NOT CASE WHEN part = '' THEN has_table_privilege({of}, verb)
                WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = part AND NOT attisdropped)
                THEN has_column_privilege({of}, part, verb) ELSE true END
            ORDER BY name, part, verb
            """
        return [
            f"{verb} on column {table}.{column}" if column else f"{verb} on table {table}"
            for verb, table, column in rows
        ]
