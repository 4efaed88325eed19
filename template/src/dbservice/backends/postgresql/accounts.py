"""Accounts on PostgreSQL: roles, grants, row security, and what a server really holds."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ...accounts.declared import VERBS, Declared, TableAccess
from ...accounts.facts import Fact
from ..interface import Accounts
from ..sql import quoted

ALL_ROWS = "all_rows"
"""The policy under which everybody sees what they saw before row security was switched on."""
_SETTINGS = {
    "idle_in_transaction_session_timeout": "60s",
    # the statement of a failed write holds its values, and an ordinary account cannot keep it out of the log
    "log_min_error_statement": "panic",
}
_ATTRIBUTES = {
    "rolsuper": "SUPERUSER",
    "rolcreatedb": "CREATEDB",
    "rolcreaterole": "CREATEROLE",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
    "rolinherit": "INHERIT",
}
_SYSTEM = "('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'"


class PostgreSQLAccounts(Accounts):
    # --- what is declared

    def script(self, declared: Declared) -> str:
        lines = [_HEADER.format(declared.service)]
        for account in declared.accounts:
            lines += [
                f"DO $$ BEGIN CREATE ROLE {_name(account)}; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
            ]
        schema = _name(declared.schema)
        lines += [
            f"CREATE SCHEMA IF NOT EXISTS {schema};",
            "",
            "BEGIN;",
            f"REVOKE ALL ON DATABASE {_name(declared.database)} FROM PUBLIC;",
            f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC;",
        ]
        for account in declared.accounts:
            lines += [
                f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {_name(account)};",
                f"REVOKE ALL ON SCHEMA {schema} FROM {_name(account)};",
            ]
        for fact in self.of_accounts(declared):
            lines += [f"{each};" for each in fact.statements]
        for table, facts in self._by_table(declared).items():
            body = [f"    {each};" for fact in facts for each in fact.statements]
            lines += [
                "DO $$ BEGIN",
                f"  IF to_regclass({quoted(self._qualified(declared, table))}) IS NULL THEN",
                f"    RAISE NOTICE 'table {table} does not exist yet: run this again when it does';",
                "  ELSE",
                *body,
                "  END IF;",
                "END $$;",
            ]
        return "\n".join([*lines, "COMMIT;"]) + "\n"

    def of_accounts(self, declared: Declared) -> list[Fact]:
        schema = _name(declared.schema)
        facts = []
        for account in declared.accounts:
            limit = declared.connections if account == declared.runtime else _MIGRATIONS
            role = _name(account)
            facts += [
                Fact(account, "LOGIN", statements=(f"ALTER ROLE {role} LOGIN {_NO_ATTRIBUTES}",)),
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
                    for name, value in _SETTINGS.items()
                ),
                Fact(
                    account,
                    f"CONNECT on database {declared.database}",
                    statements=(f"GRANT CONNECT ON DATABASE {_name(declared.database)} TO {role}",),
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
                    statements=(f"GRANT CREATE ON SCHEMA {schema} TO {_name(declared.migrate)}",),
                )
            )
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
                    statements=(f"ALTER TABLE {target} OWNER TO {_name(declared.migrate)}",),
                ),
                *(
                    Fact(
                        declared.runtime,
                        f"{verb} on table {table}",
                        statements=(f"GRANT {verb} ON {target} TO {_name(declared.runtime)}",),
                    )
                    for verb in verbs
                ),
            ]
        for each in declared.shared:
            found[each.table] = self._of_shared(declared, each)
        return found

    def _of_shared(self, declared: Declared, access: TableAccess) -> list[Fact]:
        target, role = self._qualified(declared, access.table), _name(declared.runtime)
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
                    statements=(f"GRANT {verb} ({_name(column)}) ON {target} TO {role}",),
                )
                for column in access.columns
            ]
        if access.rows:
            facts.append(self._of_rows(declared, access))
        return facts

    def _of_rows(self, declared: Declared, access: TableAccess) -> Fact:
        """One restrictive policy for the account, beside one that lets all accounts see all rows: the owner and other
        services see what they saw, whichever script runs first."""
        target, policy = self._qualified(declared, access.table), _name(declared.runtime)
        condition = _condition(access)
        return Fact(
            declared.runtime,
            f"only rows of {access.table} where {_normalized(condition)}",
            statements=(
                f"DROP POLICY IF EXISTS {ALL_ROWS} ON {target}",
                f"CREATE POLICY {ALL_ROWS} ON {target} USING (true) WITH CHECK (true)",
                f"DROP POLICY IF EXISTS {policy} ON {target}",
                f"CREATE POLICY {policy} ON {target} AS RESTRICTIVE TO {policy} USING ({condition}) WITH CHECK ({condition})",
                f"ALTER TABLE {target} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            ),
        )

    def _qualified(self, declared: Declared, table: str) -> str:
        return f"{_name(declared.schema)}.{_name(table)}"

    # --- what a server holds

    def existing_tables(self, cursor: Any, declared: Declared) -> list[str]:
        cursor.execute(
            "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relkind IN ('r', 'p')"
            " ORDER BY relname",
            [declared.schema],
        )
        return [row[0] for row in cursor.fetchall()]

    def existing_accounts(self, cursor: Any, declared: Declared) -> list[str]:
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(declared.accounts)])
        return [row[0] for row in cursor.fetchall()]

    def create_account(self, account: str) -> list[str]:
        return [f"CREATE ROLE {_name(account)}"]

    def create_schema(self, declared: Declared) -> list[str]:
        return [f"CREATE SCHEMA IF NOT EXISTS {_name(declared.schema)}"]

    def password_statement(self, connection: Any, account: str, password: str) -> str:
        # the verifier, and not the password, is what the statement holds: a log or pg_stat_activity may show it
        from psycopg2.extensions import encrypt_password

        verifier = encrypt_password(password, account, scope=connection, algorithm="scram-sha-256")
        return f"ALTER ROLE {_name(account)} PASSWORD {quoted(verifier)}"

    def held(self, cursor: Any, declared: Declared) -> list[Fact]:
        return [
            fact
            for account in declared.accounts
            for fact in (
                *_held_attributes(cursor, account),
                *_held_memberships(cursor, account),
                *_held_grants(cursor, account, declared.schema),
                *_held_ownership(cursor, account, declared.schema),
                *_held_default_privileges(cursor, account),
            )
        ] + _held_policies(cursor, declared)


_MIGRATIONS = 8
"""The connection limit of the migration account: two for each `migrate` (one holds the lock), and one that cancels."""
_NO_ATTRIBUTES = " ".join(f"NO{each}" for each in _ATTRIBUTES.values())
_HEADER = """\
-- Accounts of the service {0}, as `python -m` prints them by `grants`: do not edit.
-- Run it as an administrator, any number of times, before or after the tables of this and of other services exist.
-- It sets no password: `grants --apply` does, or \\password in psql.
"""


def _held_attributes(cursor: Any, account: str) -> Iterator[Fact]:
    cursor.execute(
        f"SELECT rolcanlogin, rolconnlimit, {', '.join(_ATTRIBUTES)} FROM pg_roles WHERE rolname = %s",
        [account],
    )
    row = cursor.fetchone()
    if row is None:
        return
    role = _name(account)
    login, limit, *attributes = row
    if login:
        yield Fact(account, "LOGIN", statements=(f"ALTER ROLE {role} NOLOGIN",))
    yield Fact(account, f"CONNECTION LIMIT {limit}")
    for has, name in zip(attributes, _ATTRIBUTES.values(), strict=True):
        if has:
            yield Fact(account, name, statements=(f"ALTER ROLE {role} NO{name}",))
    cursor.execute(
        "SELECT coalesce(datname, ''), unnest(setconfig) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole"
        " LEFT JOIN pg_database d ON d.oid = setdatabase WHERE rolname = %s",
        [account],
    )
    for database, setting in cursor.fetchall():
        name, _, value = setting.partition("=")
        where = f" IN DATABASE {_name(database)}" if database else ""
        yield Fact(
            account,
            f"SET {name} = {value}",
            via=f"in database {database}" if database else "",
            statements=()
            if not database and name in _SETTINGS
            else (f"ALTER ROLE {role}{where} RESET {name}",),
        )


def _held_memberships(cursor: Any, account: str) -> Iterator[Fact]:
    cursor.execute(
        "SELECT g.rolname, m.rolname FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid"
        " JOIN pg_roles m ON m.oid = a.member WHERE %s IN (g.rolname, m.rolname)",
        [account],
    )
    for group, member in cursor.fetchall():
        revoke = (f"REVOKE {_name(group)} FROM {_name(member)}",)
        text = f"member of role {group}" if member == account else f"role {member} is a member of it"
        yield Fact(account, text, statements=revoke)


# every object with an access list: (kind, name as the facts show it, name in SQL, list)
_OBJECTS = f"""
    SELECT 'DATABASE' AS kind, 'database ' || datname AS shown, format('%%I', datname) AS target,
        coalesce(datacl, acldefault('d', datdba)) AS acl, datdba AS owner, datname = current_database() AS here
    FROM pg_database
    UNION ALL SELECT 'SCHEMA', 'schema ' || nspname, format('%%I', nspname),
        coalesce(nspacl, acldefault('n', nspowner)), nspowner, true
    FROM pg_namespace WHERE nspname NOT IN {_SYSTEM}
    UNION ALL SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
        CASE relkind WHEN 'S' THEN 'sequence ' WHEN 'v' THEN 'view ' ELSE 'table ' END
            || CASE WHEN nspname = %(schema)s THEN '' ELSE nspname || '.' END || relname,
        format('%%I.%%I', nspname, relname), coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)),
        relowner, true
    FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND nspname NOT IN {_SYSTEM}
    UNION ALL SELECT 'COLUMN', 'column ' || CASE WHEN nspname = %(schema)s THEN '' ELSE nspname || '.' END || relname || '.' || attname,
        format('(%%I) ON %%I.%%I', attname, nspname, relname), attacl, relowner, true
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE attacl IS NOT NULL AND nspname NOT IN {_SYSTEM}
    UNION ALL SELECT 'FUNCTION', 'function ' || nspname || '.' || proname, format('%%I.%%I(%%s)', nspname, proname,
        pg_get_function_identity_arguments(p.oid)), coalesce(proacl, acldefault('f', proowner)), proowner, prosecdef
    FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname NOT IN {_SYSTEM}
    UNION ALL SELECT 'TABLESPACE', 'tablespace ' || spcname, format('%%I', spcname),
        coalesce(spcacl, acldefault('t', spcowner)), spcowner, true
    FROM pg_tablespace
    UNION ALL SELECT 'FOREIGN SERVER', 'foreign server ' || srvname, format('%%I', srvname),
        coalesce(srvacl, acldefault('S', srvowner)), srvowner, true
    FROM pg_foreign_server
    UNION ALL SELECT 'PARAMETER', 'parameter ' || parname, parname, paracl, 10, true FROM pg_parameter_acl
"""


def _held_grants(cursor: Any, account: str, schema: str) -> Iterator[Fact]:
    # a role sees what PUBLIC and every role that it is in, directly or not, may do; that of its owner is told as ownership
    cursor.execute(
        f"""
        WITH RECURSIVE roles(oid) AS (
            SELECT oid FROM pg_roles WHERE rolname = %(account)s
            UNION SELECT roleid FROM pg_auth_members JOIN roles ON member = roles.oid
        ), objects AS ({_OBJECTS})
        SELECT kind, shown, target, privilege_type, is_grantable, coalesce(r.rolname, '')
        FROM objects, aclexplode(acl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE (a.grantee IN (SELECT oid FROM roles) OR (a.grantee = 0 AND here)) AND a.grantee <> owner
        ORDER BY kind, shown, privilege_type
        """,
        {"account": account, "schema": schema},
    )
    for kind, shown, target, verb, grantable, grantee in cursor.fetchall():
        via = "" if grantee == account else f"through role {grantee}" if grantee else "through PUBLIC"
        receiver = _name(grantee) if grantee else "PUBLIC"
        on = f"{verb} {target}" if kind == "COLUMN" else f"{verb} ON {kind} {target}"
        revoke = f"REVOKE {on} FROM {receiver}"
        if grantee and grantee != account:  # what the role is for is not ours to take away
            yield Fact(account, f"{verb} on {shown}", via, advice=f"leave the role {grantee}")
            continue
        yield Fact(account, f"{verb} on {shown}", via, (revoke,))
        if grantable:
            yield Fact(
                account,
                f"GRANT OPTION of {verb} on {shown}",
                via,
                (revoke.replace("REVOKE ", "REVOKE GRANT OPTION FOR ", 1),),
            )


def _held_ownership(cursor: Any, account: str, schema: str) -> Iterator[Fact]:
    cursor.execute(
        f"""
        SELECT 'database ' || datname, format('DATABASE %%I', datname) FROM pg_database WHERE datdba = %(account)s::regrole
        UNION ALL SELECT 'schema ' || nspname, format('SCHEMA %%I', nspname) FROM pg_namespace WHERE nspowner = %(account)s::regrole
        UNION ALL SELECT CASE relkind WHEN 'S' THEN 'sequence ' WHEN 'v' THEN 'view ' ELSE 'table ' END
                || CASE WHEN nspname = %(schema)s THEN '' ELSE nspname || '.' END || relname,
            format(CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END || ' %%I.%%I', nspname, relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relowner = %(account)s::regrole AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND nspname NOT IN {_SYSTEM}
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype IN ('i', 'a'))
        UNION ALL SELECT 'function ' || nspname || '.' || proname,
            format('FUNCTION %%I.%%I(%%s)', nspname, proname, pg_get_function_identity_arguments(p.oid))
        FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE proowner = %(account)s::regrole
        UNION ALL SELECT 'type ' || nspname || '.' || typname, format('TYPE %%I.%%I', nspname, typname)
        FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
        WHERE typowner = %(account)s::regrole AND typrelid = 0 AND typelem = 0
        ORDER BY 1
        """,
        {"account": _name(account), "schema": schema},
    )
    for shown, target in cursor.fetchall():
        yield Fact(
            account,
            f"OWNER of {shown}",
            statements=(f"ALTER {target} OWNER TO CURRENT_USER",),
        )


def _held_default_privileges(cursor: Any, account: str) -> Iterator[Fact]:
    cursor.execute(
        """
        SELECT d.rolname, coalesce(nspname, ''), CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
            WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END, privilege_type, coalesce(g.rolname, '')
        FROM pg_default_acl JOIN pg_roles d ON d.oid = defaclrole LEFT JOIN pg_namespace n ON n.oid = defaclnamespace,
            aclexplode(defaclacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
        WHERE a.grantee <> defaclrole AND (g.rolname = %s OR (a.grantee = 0 AND defaclobjtype NOT IN ('f', 'T')))
        """,
        [account],
    )
    for creator, schema, kind, verb, grantee in cursor.fetchall():
        within = f" IN SCHEMA {_name(schema)}" if schema else ""
        receiver = _name(grantee) if grantee else "PUBLIC"
        yield Fact(
            account,
            f"{verb} on new {kind} of role {creator}" + (f" in schema {schema}" if schema else ""),
            "" if grantee else "through PUBLIC",
            (
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {_name(creator)}{within} REVOKE {verb} ON {kind} FROM {receiver}",
            ),
        )


def _held_policies(cursor: Any, declared: Declared) -> list[Fact]:
    """Row security on the tables that the run-time account uses, as far as it concerns the account."""
    scoped = {each.table: each for each in declared.shared if each.rows}
    tables = [*declared.migrated, *(each.table for each in declared.shared)]
    cursor.execute(
        """
        SELECT relname, relrowsecurity, relforcerowsecurity, polname, polpermissive, polcmd::text,
            ARRAY(SELECT coalesce(rolname, 'PUBLIC') FROM unnest(polroles) AS p(oid) LEFT JOIN pg_roles r ON r.oid = p.oid)::text[],
            pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace LEFT JOIN pg_policy ON polrelid = c.oid
        WHERE nspname = %s AND relname = ANY(%s) AND relkind IN ('r', 'p') ORDER BY relname, polname
        """,
        [declared.schema, tables],
    )
    found: list[Fact] = []
    right: set[str] = set()
    enabled: set[str] = set()
    rows = cursor.fetchall()
    for table, on, forced, name, permissive, command, roles, using, check in rows:
        if on and forced:
            enabled.add(table)
        if name is None or (
            name == ALL_ROWS and permissive and roles == ["PUBLIC"] and (using, check) == ("true", "true")
        ):
            continue
        if not {declared.runtime, declared.migrate, "PUBLIC"} & set(roles):
            continue
        target = f"{_name(declared.schema)}.{_name(table)}"
        access = scoped.get(table)
        same = using is not None and check is not None and _normalized(using) == _normalized(check)
        if (
            access
            and name == declared.runtime
            and not permissive
            and command == "*"
            and roles == [declared.runtime]
            and same
            and _normalized(using) == _normalized(_condition(access))
        ):
            right.add(table)
            continue
        found.append(
            Fact(
                declared.runtime,
                f"policy {name} on table {table}: {command} USING ({using}) WITH CHECK ({check}) TO {', '.join(roles)}",
                statements=(f"DROP POLICY {_name(name)} ON {target}",),
            )
        )
    with_all_rows = {row[0] for row in rows if row[3] == ALL_ROWS}
    for table in sorted(right & enabled & with_all_rows):
        text = f"only rows of {table} where {_normalized(_condition(scoped[table]))}"
        found.append(Fact(declared.runtime, text))
    return found


def _condition(access: TableAccess) -> str:
    return " AND ".join(f"{_name(column)} = {literal}" for column, literal in access.rows.items())


def _normalized(expression: str) -> str:
    """A condition without what PostgreSQL adds to it: casts, parentheses, quotation marks around names."""
    parts = re.split(r"('(?:[^']|'')*')", expression)
    for i in range(0, len(parts), 2):
        bare = re.sub(r"::\s*(?:\"[^\"]+\"|[a-z ]+)(?:\(\d+(?:,\d+)?\))?(?:\[\])?", "", parts[i])
        parts[i] = " ".join(re.sub(r'[()"]', " ", bare).split())
    return " ".join(filter(None, parts))


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
