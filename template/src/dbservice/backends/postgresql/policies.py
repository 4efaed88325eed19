"""Row security on PostgreSQL: the policies that a service's declared rows need, and those that a table has."""

import datetime as dt
import re
from contextlib import suppress
from typing import Any

from ...accounts.declared import Declared, TableAccess
from ...accounts.facts import Fact
from .session import identifier

ALL_ROWS = "all_rows"
"""The policy under which everybody sees what they saw before row security was switched on."""


def row_policies(declared: Declared, access: TableAccess) -> tuple[str, ...]:
    """Statements for one restrictive policy for the account, beside one that lets all accounts see all rows: the owner and other
    services see what they saw, whichever script runs first."""
    target = f"{identifier(declared.schema)}.{identifier(access.table)}"
    policy, condition = identifier(declared.runtime), condition_of(access)
    return (
        f"DROP POLICY IF EXISTS {ALL_ROWS} ON {target}",
        f"CREATE POLICY {ALL_ROWS} ON {target} USING (true) WITH CHECK (true)",
        f"DROP POLICY IF EXISTS {policy} ON {target}",
        f"CREATE POLICY {policy} ON {target} AS RESTRICTIVE TO {policy} USING ({condition}) WITH CHECK ({condition})",
        f"ALTER TABLE {target} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )


def held_policies(cursor: Any, declared: Declared) -> list[Fact]:
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
        target = f"{identifier(declared.schema)}.{identifier(table)}"
        access = scoped.get(table)
        same = using is not None and check is not None and normalized(using) == normalized(check)
        if (
            access
            and name == declared.runtime
            and not permissive
            and command == "*"
            and roles == [declared.runtime]
            and same
            and normalized(str(using)) == normalized(condition_of(access))
        ):
            right.add(table)
            continue
        # the statements of the declared one replace it: without any the account would see all rows
        drop = () if access and name == declared.runtime else (f"DROP POLICY {identifier(name)} ON {target}",)
        text = f"policy {name} on table {table}: {command} USING ({using}) WITH CHECK ({check}) TO {', '.join(roles)}"
        found.append(Fact(declared.runtime, text, statements=drop))
    with_all_rows = {row[0] for row in rows if row[3] == ALL_ROWS}
    for table in sorted(right & enabled & with_all_rows):
        text = f"only rows of {table} where {normalized(condition_of(scoped[table]))}"
        found.append(Fact(declared.runtime, text))
    for table in sorted({row[0] for row in rows if row[1] and row[0] in declared.migrated} - with_all_rows):
        target = f"{identifier(declared.schema)}.{identifier(table)}"
        create = f"CREATE POLICY {ALL_ROWS} ON {target} USING (true) WITH CHECK (true)"
        found.append(
            Fact(declared.runtime, f"row security hides rows of its own table {table}", statements=(create,))
        )
    return found


def condition_of(access: TableAccess) -> str:
    return " AND ".join(f"{identifier(column)} = {literal}" for column, literal in access.rows.items())


def normalized(expression: str) -> str:
    """A condition without what PostgreSQL adds to it: casts, parentheses, quotation marks around names and numbers; dates and
    times in one form."""
    parts = []
    for literal, type_, other in re.findall(rf"('(?:[^']|'')*')({_CAST})?|((?:[^'])+)", expression):
        parts.append(_literal(literal, type_) if literal else re.sub(_CAST, "", other))
    for i, part in enumerate(parts):
        if not part.startswith("'"):
            parts[i] = " ".join(re.sub(r'[()"]', " ", part).split())
    return " ".join(filter(None, parts))


def _literal(literal: str, cast: str) -> str:
    text, type_ = literal[1:-1], cast.removeprefix("::").strip()
    if re.match("(small|big)?int|numeric", type_):
        return text
    with suppress(ValueError):  # of a policy that somebody else made, 'infinity' for example
        if type_.startswith("timestamp"):
            text = dt.datetime.fromisoformat(text).astimezone(dt.UTC).isoformat(" ")
        elif type_.startswith("time"):
            text = dt.time.fromisoformat(text).isoformat()
    return f"'{text}'"


_CAST = r"::\s*(?:\"[^\"]+\"|[a-z][a-z0-9 ]*)(?:\(\d+(?:,\d+)?\))?(?:\[\])?"
