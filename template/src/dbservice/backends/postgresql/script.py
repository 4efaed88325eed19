"""The script of a service's accounts on PostgreSQL. It names neither the database nor anything of the machine that prints it."""

from collections.abc import Sequence

from ...accounts.declared import MIGRATE, VERBS, Declared, TableAccess
from ...accounts.header import header
from ..sql import quoted
from .policies import row_policies
from .privileges import ATTRIBUTES, LOG_SETTINGS, default_privileges, settings_of
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
            *_refuse_tables_of_others(declared),
            "-- Accounts",
            "",
            *(line for each in declared.accounts for line in _account(declared, each)),
            *_log_settings(declared),
            *_attributes(declared),
            "",
            "-- Database and schema",
            "",
            *_database(declared),
            "",
            *_join_owners(declared),
            *_default_privileges(declared),
            "",
            *_revoked(declared),
            *(["", f"-- Tables of {declared.service}", "", *own] if own else []),
            *(["", "-- Tables of other services", "", *shared] if shared else []),
            "",
            *_leave_owners(),
            "COMMIT;",
            "",
        ]
    )


def _refuse_tables_of_others(declared: Declared) -> list[str]:
    if not declared.migrate:
        return []
    tables = ", ".join(f"to_regclass({quoted(_qualified(declared, each))})" for each in declared.migrated)
    return [
        "-- A table of another service is not taken from it.",
        "DO $$ DECLARE taken record; BEGIN",
        "  FOR taken IN SELECT relname, rolname FROM pg_class c JOIN pg_roles r ON r.oid = relowner",
        f"    WHERE c.oid IN ({tables}) AND rolname LIKE '%{MIGRATE}' AND rolname <> {quoted(declared.migrate)}",
        "  LOOP",
        "    RAISE EXCEPTION 'the table % belongs to another service, by its account %', taken.relname, taken.rolname;",
        "  END LOOP;",
        "END $$;",
        "",
    ]


def _account(declared: Declared, account: str) -> list[str]:
    role = identifier(account)
    return [
        f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$;",
        f"ALTER ROLE {role} LOGIN NOINHERIT CONNECTION LIMIT {declared.connections(account)};",
        f"ALTER ROLE {role} RESET ALL;",
        *(
            f"ALTER ROLE {role} SET {name} = {quoted(value)};"
            for name, value in settings_of(declared, account).items()
            if name not in LOG_SETTINGS
        ),
        "",
    ]


def _log_settings(declared: Declared) -> list[str]:
    lines = [
        "-- No value of a failed statement comes into the server's log. Not everybody may set this: the rest holds without it."
    ]
    for name, value in LOG_SETTINGS.items():
        alter = (
            f"  ALTER ROLE {identifier(each)} SET {name} = {quoted(value)};" for each in declared.accounts
        )
        notice = f"{name} is not set: only a superuser may, or who has SET on this parameter"
        lines += _do(
            [
                "BEGIN",
                *alter,
                f"EXCEPTION WHEN insufficient_privilege THEN RAISE NOTICE {quoted(notice)};",
                "END",
            ]
        )
    return [*lines, ""]


def _attributes(declared: Declared) -> list[str]:
    attributes = {column: name for column, name in ATTRIBUTES.items() if name != "INHERIT"}
    return [
        "-- A new account has none of these attributes, and only a superuser may take them away.",
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


def owners_to_join(declared: Declared) -> str:
    """A query of the roles that own something on which the administrator shall grant, and to which it may add itself: as a list
    of names in SQL, or NULL. A superuser needs none of them."""
    schema = quoted(identifier(declared.schema))
    return (
        "SELECT string_agg(quote_ident(rolname), ', ') FROM pg_roles r"
        " WHERE NOT pg_has_role(oid, 'USAGE') AND pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')"
        f" AND (rolname = {quoted(declared.migrate or '')} OR EXISTS"
        f" (SELECT FROM pg_class WHERE relowner = r.oid AND relnamespace = to_regnamespace({schema})))"
    )


def _join_owners(declared: Declared) -> list[str]:
    return [
        "-- An administrator who is no superuser is a member of the roles that own the tables until the end.",
        "DO $$ BEGIN",
        f"  PERFORM set_config('accounts.owners', ({owners_to_join(declared)}), true);",
        "  IF current_setting('accounts.owners') <> '' THEN",
        "    EXECUTE 'GRANT ' || current_setting('accounts.owners') || ' TO CURRENT_USER';",
        "  END IF;",
        "END $$;",
    ]


def _leave_owners() -> list[str]:
    return [
        "DO $$ BEGIN",
        "  IF current_setting('accounts.owners') <> '' THEN",
        "    EXECUTE 'REVOKE ' || current_setting('accounts.owners') || ' FROM CURRENT_USER';",
        "  END IF;",
        "END $$;",
    ]


def _default_privileges(declared: Declared) -> list[str]:
    if not declared.migrate:
        return []
    return [
        "",
        f"-- What {declared.migrate} creates is for nobody else until it is granted.",
        *(f"{each};" for fact in default_privileges(declared.migrate) for each in fact.statements),
    ]


def _revoked(declared: Declared) -> list[str]:
    schema, roles = quoted(identifier(declared.schema)), _roles(declared)
    oids = ", ".join(f"{quoted(identifier(each))}::regrole" for each in declared.accounts)
    return [
        "-- What the accounts hold on tables, and which rows they see: what is declared comes below.",
        "DO $$ DECLARE target regclass; BEGIN",
        f"  FOR target IN SELECT oid FROM pg_class c WHERE relnamespace = {schema}::regnamespace AND EXISTS",
        "    (SELECT FROM (SELECT relacl UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = c.oid) AS acls(acl),",
        f"      aclexplode(acl) AS held WHERE grantee IN ({oids}) AND grantee <> relowner)",
        "  LOOP",
        f"    EXECUTE format('REVOKE ALL ON %s FROM {roles}', target);",
        "  END LOOP;",
        "  FOR target IN SELECT polrelid FROM pg_policy JOIN pg_class c ON c.oid = polrelid",
        f"    WHERE relnamespace = {schema}::regnamespace AND polname = {quoted(declared.runtime)}",
        "  LOOP",
        f"    EXECUTE format('DROP POLICY {identifier(declared.runtime)} ON %s', target);",
        "  END LOOP;",
        "END $$;",
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
