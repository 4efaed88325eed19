"""The script of a service's accounts on PostgreSQL. It names neither the database nor anything of the machine that prints it."""

from collections.abc import Sequence

from ...accounts.declared import VERBS, Declared, TableAccess
from ...accounts.header import header
from ..sql import quoted
from .policies import row_policies
from .privileges import ATTRIBUTES, SETTINGS
from .session import identifier


def script(declared: Declared) -> str:
    """The SQL that an administrator can run any number of times, before or after the tables exist; without passwords."""
    own = [line for each in declared.migrated for line in _own_table(declared, each)]
    others = {each.table: each for each in declared.shared}
    tables = [*others, *(each for each in declared.references if each not in others)]
    shared = [line for each in tables for line in _shared_table(declared, each, others.get(each))]
    return "\n".join(
        [
            *header(
                declared,
                engine="PostgreSQL",
                command="psql -d app_db -f deploy/sql/accounts.sql",
                password="\\password in psql",
            ),
            "",
            "SET client_encoding = 'UTF8';",
            "BEGIN;",
            "",
            "-- Accounts",
            "",
            *(line for each in declared.accounts for line in _account(declared, each)),
            *_attributes(declared),
            "",
            "-- Database and schema",
            "",
            *_database(declared),
            "",
            *_revoked(declared),
            *(["", f"-- Tables of {declared.service}", "", *own] if own else []),
            *(["", "-- Tables of other services", "", *shared] if shared else []),
            "",
            "COMMIT;",
            "",
        ]
    )


def _account(declared: Declared, account: str) -> list[str]:
    role = identifier(account)
    return [
        f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$;",
        f"ALTER ROLE {role} LOGIN NOINHERIT CONNECTION LIMIT {declared.connections(account)};",
        f"ALTER ROLE {role} RESET ALL;",
        *(f"ALTER ROLE {role} SET {name} = {quoted(value)};" for name, value in SETTINGS.items()),
        "",
    ]


def _attributes(declared: Declared) -> list[str]:
    """A new role has none of them, and only a superuser may say so."""
    attributes = {column: name for column, name in ATTRIBUTES.items() if name != "INHERIT"}
    return [
        "DO $$ DECLARE account name; BEGIN",
        f"  FOR account IN SELECT rolname FROM pg_roles WHERE rolname IN ({', '.join(map(quoted, declared.accounts))})",
        f"    AND ({' OR '.join(attributes)})",
        "  LOOP",
        f"    EXECUTE format('ALTER ROLE %I {' '.join('NO' + each for each in attributes.values())}', account);",
        "  END LOOP;",
        "END $$;",
    ]


def _database(declared: Declared) -> list[str]:
    schema, roles = identifier(declared.schema), _roles(declared)
    lines = [
        "DO $$ BEGIN",
        f"  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, {roles}', current_database());",
        f"  EXECUTE format('GRANT CONNECT ON DATABASE %I TO {roles}', current_database());",
        "END $$;",
        f"CREATE SCHEMA IF NOT EXISTS {schema};",
        f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC, {roles};",
        f"GRANT USAGE ON SCHEMA {schema} TO {roles};",
    ]
    if declared.migrate:
        lines.append(f"GRANT CREATE ON SCHEMA {schema} TO {identifier(declared.migrate)};")
    return lines


def _revoked(declared: Declared) -> list[str]:
    return [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {identifier(declared.schema)} FROM {_roles(declared)};",
    ]


def _own_table(declared: Declared, table: str) -> list[str]:
    assert declared.migrate
    target = _qualified(declared, table)
    verbs = VERBS if table in declared.own else ("SELECT",)
    return _if_there(
        f"to_regclass({quoted(target)}) IS NOT NULL",
        f"table {table} does not exist yet: `migrate` creates it, and grants the same",
        [
            f"ALTER TABLE {target} OWNER TO {identifier(declared.migrate)}",
            f"GRANT ALL ON {target} TO {identifier(declared.migrate)}",
            f"GRANT {', '.join(verbs)} ON {target} TO {identifier(declared.runtime)}",
        ],
    )


def _shared_table(declared: Declared, table: str, access: TableAccess | None) -> list[str]:
    target, statements = _qualified(declared, table), []
    columns = access.columns if access else ()
    references = declared.references.get(table, ())
    if access:
        verbs = ", ".join(
            each if each == "DELETE" else f"{each} ({_names(columns)})" for each in access.verbs
        )
        statements.append(f"GRANT {verbs} ON {target} TO {identifier(declared.runtime)}")
        statements += row_policies(declared, access) if access.rows else []
    if references:
        assert declared.migrate
        statements.append(
            f"GRANT REFERENCES ({_names(references)}) ON {target} TO {identifier(declared.migrate)}"
        )
    names = dict.fromkeys((*columns, *references))
    there = (
        f"(SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass({quoted(target)})"
        f" AND NOT attisdropped AND attname IN ({', '.join(map(quoted, names))})) = {len(names)}"
    )
    missing = f"table {table} does not exist yet or lacks a column: run this again when it does"
    return _if_there(there, missing, statements)


def _if_there(condition: str, otherwise: str, statements: Sequence[str]) -> list[str]:
    lines = [
        f"IF {condition} THEN",
        *(f"  {each};" for each in statements),
        "ELSE",
        f"  RAISE NOTICE {quoted(otherwise)};",
        "END IF;",
    ]
    return _do(["BEGIN", *(f"  {each}" for each in lines), "END"])


def _do(lines: Sequence[str]) -> list[str]:
    """A DO statement; `$$` does for its body unless the value of a row has it, too."""
    body = "\n".join(lines)
    return [f"DO {quoted(body)};" if "$$" in body else f"DO $$ {body} $$;"]


def _qualified(declared: Declared, table: str) -> str:
    return f"{identifier(declared.schema)}.{identifier(table)}"


def _roles(declared: Declared) -> str:
    return _names(declared.accounts)


def _names(names: Sequence[str]) -> str:
    return ", ".join(map(identifier, names))
