"""What an account of MySQL or MariaDB finds out about itself, without looking at others."""

from typing import Any

from ...accounts.declared import Declared
from ...accounts.facts import Fact
from .held import held_by_own
from .names import covers
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
    tables = {f"table {each}" for each in (*declared.migrated, declared.journal, *behind_views)}
    for verb, thing in _grants(cursor, declared):
        if verb in _SCHEMA_VERBS and (thing in tables or covers(thing, declared.database)):
            return f"it has {verb} on {thing}"
        seen = thing.removeprefix("column ").partition(".")[0] if thing.startswith("column ") else thing[6:]
        if behind_views and (
            seen in behind_views
            or (verb in ("SELECT", "UPDATE", "DELETE") and covers(thing, declared.database))
        ):
            return f"it sees all rows of {', '.join(sorted(behind_views))}: it has {verb} on {thing}"
    return ""


def lacks(cursor: Any, declared: Declared, wanted: list[Fact], existing: list[str]) -> list[str]:
    """Those of the `wanted` facts that the account lacks. An account is shown no table that it has no privilege on: of such a
    table of another service it cannot say whether it exists."""
    held = set(_grants(cursor, declared))
    in_all = {verb for verb, thing in held if covers(thing, declared.database)}
    if "ALL PRIVILEGES" in in_all:
        return []
    views = row_views(declared)
    unseen = {each.table for each in declared.shared if not each.rows and each.table not in existing}
    unseen |= {view for view in views if view not in existing}
    missing = []
    for fact in wanted:
        verb, _, thing = fact.text.partition(" on ")
        kind, _, name = thing.partition(" ")
        table = name.partition(".")[0] if kind == "column" else name
        found = (verb, thing) in held or (verb, f"table {table}") in held or verb in in_all
        if not found and table not in unseen:
            missing.append(fact.text)
    return missing


def _grants(cursor: Any, declared: Declared) -> list[tuple[str, str]]:
    """Verbs and objects, for example SELECT and `table users`."""
    texts = [each.text.partition(" on ") for each in held_by_own(cursor, declared)]
    return [(verb, thing) for verb, on, thing in texts if on]
