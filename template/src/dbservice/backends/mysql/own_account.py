"""What an account of MySQL or MariaDB finds out about itself, without looking at others."""

from collections.abc import Iterable
from typing import Any

from ...accounts.declared import Declared
from ...accounts.facts import Fact
from ..interface import Asking
from ..sql import quoted
from .held import held_by_own
from .names import covers
from .privileges import Server, held_privileges
from .row_views import row_views

_SCHEMA_VERBS = frozenset(
    [
        "ALL PRIVILEGES",
        "CREATE",
        "DROP",
        "ALTER",
        "INDEX",
        "REFERENCES",
        "TRIGGER",
        "CREATE VIEW",
        "SUPER",
        "GRANT OPTION",
    ]
)


def excess(cursor: Any, declared: Declared) -> str:
    """Why the account must not serve requests, as the end of a sentence; empty if it may."""
    behind_views = {each.table for each in declared.shared if each.rows}
    tables = {
        f"table {each}" for each in (*declared.migrated, declared.journal, declared.lock_table, *behind_views)
    }
    for verb, thing in _grants(cursor, declared):
        if covers(thing, declared.database) or (verb in _SCHEMA_VERBS and thing in tables):
            return f"it has {verb} on {thing}"
        seen = thing.removeprefix("column ").partition(".")[0] if thing.startswith("column ") else thing[6:]
        if seen in behind_views:
            return f"it sees all rows of {', '.join(sorted(behind_views))}: it has {verb} on {thing}"
    return ""


def ask_lacks(declared: Declared, wanted: list[Fact]) -> Asking:
    """Asks which of the `wanted` facts the account lacks. An account is shown no table that it has no privilege on: of such a
    table of another service it cannot say whether it exists."""
    lines = [str(row[0]) for row in (yield "SHOW GRANTS")]
    server = Server(False, declared.database, frozenset(row_views(declared)), lambda _: lines, ())
    held = set(_verbs_and_objects(held_privileges(server, declared.runtime, own=True)))
    in_all = {verb for verb, thing in held if covers(thing, declared.database)}
    if "ALL PRIVILEGES" in in_all:
        return []
    missing = []
    for fact in wanted:
        verb, _, thing = fact.text.partition(" on ")
        kind, _, name = thing.partition(" ")
        table = name.partition(".")[0] if kind == "column" else name
        if not ((verb, thing) in held or (verb, f"table {table}") in held or verb in in_all):
            missing.append((fact.text, table))
    if not missing:
        return []
    rows = yield f"SELECT table_name FROM information_schema.tables WHERE table_schema = {quoted(declared.database)}"
    existing = {row[0] for row in rows}
    unseen = {each.table for each in declared.shared if not each.rows and each.table not in existing}
    unseen |= {view for view in row_views(declared) if view not in existing}
    return [text for text, table in missing if table not in unseen]


def _grants(cursor: Any, declared: Declared) -> list[tuple[str, str]]:
    return _verbs_and_objects(held_by_own(cursor, declared))


def _verbs_and_objects(facts: Iterable[Fact]) -> list[tuple[str, str]]:
    """For example SELECT and `table users`."""
    texts = [each.text.partition(" on ") for each in facts]
    return [(verb, thing) for verb, on, thing in texts if on]
