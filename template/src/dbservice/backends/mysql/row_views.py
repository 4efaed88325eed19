"""Rows on MySQL and MariaDB, which have no row security: a view that shows and accepts only them, and the locked account
with whose privileges it reads and writes the table."""

import re
from collections.abc import Iterator
from typing import Any

from ...accounts.declared import Declared, TableAccess, insert_view, row_view
from ...accounts.facts import Fact
from .names import HOST, account_name, name, qualified


def view_account(declared: Declared) -> str:
    """The account that the views run as; nobody can log in to it."""
    return f"{declared.service}-view"


def row_views(declared: Declared) -> dict[str, TableAccess]:
    """The views of the service, by name."""
    return {
        view: each
        for each in declared.shared
        for view in (
            views_of(each.table, declared.package, inserts="INSERT" in each.verbs) if each.rows else ()
        )
    }


def views_of(table: str, package: str, *, inserts: bool) -> list[str]:
    """The views of the rows of a table: where they are read, changed and deleted, and where they are inserted."""
    return [row_view(table, package), *([insert_view(table, package)] if inserts else [])]


def view_fact(declared: Declared, view: str, access: TableAccess) -> Fact:
    """A view of the rows in `access`; its statement makes it, or makes it what it should be."""
    columns = ", ".join(map(name, access.columns))
    condition = " AND ".join(f"{name(column)} = {literal}" for column, literal in access.rows.items())
    statement = (
        f"CREATE OR REPLACE DEFINER = {account_name(view_account(declared))} SQL SECURITY DEFINER VIEW"
        f" {name(view)} AS SELECT {columns} FROM {name(access.table)}"
        f" WHERE {condition} WITH CASCADED CHECK OPTION"
    )
    shown = f"view {view} of {', '.join(access.columns)} of the rows of {access.table} where {condition.replace('`', '')}"
    return Fact(view_account(declared), shown, statements=(statement,))


def held_views(cursor: Any, declared: Declared) -> Iterator[Fact]:
    """The views that run as the service's locked account or have the name of one that should."""
    wanted = row_views(declared)
    definer = f"{view_account(declared)}@{HOST}"
    cursor.execute(
        "SELECT table_name, view_definition, check_option, definer, security_type FROM information_schema.views"
        " WHERE table_schema = %s ORDER BY table_name",
        [declared.database],
    )
    for view, definition, check, held_definer, security in cursor.fetchall():
        if view not in wanted and held_definer != definer:
            continue
        right = (check, held_definer, security) == ("CASCADED", definer, "DEFINER")
        if (
            view in wanted
            and right
            and _tokens(definition, escaped=True) == _expected(declared, wanted[view])
        ):
            yield view_fact(declared, view, wanted[view])
            continue
        text = f"view {view}, SQL SECURITY {security} of {held_definer}, CHECK OPTION {check}: {definition}"
        # the statement of the declared one replaces it
        drop = () if view in wanted else (f"DROP VIEW {name(view)}",)
        yield Fact(view_account(declared), text, statements=drop)


def _expected(declared: Declared, access: TableAccess) -> list[str]:
    """The view's definition as a server prints it, in tokens."""
    table = qualified(declared, access.table)
    columns = ",".join(f"{table}.{name(each)} AS {name(each)}" for each in access.columns)
    condition = " and ".join(f"{table}.{name(column)} = {literal}" for column, literal in access.rows.items())
    return _tokens(f"select {columns} from {table} where {condition}", escaped=False)


def _tokens(sql: str, *, escaped: bool) -> list[str]:
    """The words of a view's definition without the parentheses that MySQL adds. The servers print strings `escaped` by
    backslashes, our sessions have none."""
    string = r"'(?:[^'\\]|\\.|'')*'" if escaped else r"'(?:[^']|'')*'"
    found = []
    for binary, text, identifier, word in re.findall(
        rf"(?s)(?:[xX]('[^']*'))|({string})|(`(?:[^`]|``)*`)|([^\s\w()]|\w+)", sql
    ):
        if text:
            escape = r"\\(.)|''" if escaped else r"''"
            found.append(re.sub(escape, _unescaped, text[1:-1], flags=re.DOTALL).join("''"))
        elif binary:
            found.append("0x" + binary[1:-1].lower())
        else:
            found.append(identifier or word.lower())
    return found


def _unescaped(found: re.Match[str]) -> str:
    escaped = found[1] if found.re.groups else None
    return "'" if escaped is None else _ESCAPES.get(escaped, escaped)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "Z": "\x1a", "b": "\b"}
