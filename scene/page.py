"""The scene's answer as a page: who may do what, and what was denied."""

from collections.abc import Iterator, Sequence

from dbservice.accounts.declared import VERBS, Declared

from .attempts import name_of
from .matrix import ALLOWED, DENIED, Result
from .rows import RowAttempt

_WIDTH = 118
_GROUPS = {
    "SELECT": ("SELECT", "SHOW CREATE"),
    "INSERT": ("INSERT",),
    "UPDATE": ("UPDATE",),
    "DELETE": ("DELETE", "TRUNCATE", "LOCK"),
    "CREATE": ("CREATE", "DATABASE", "TEMPORARY"),
    "ALTER": ("ALTER", "INDEX", "TRIGGER", "OWNER"),
    "DROP": ("DROP",),
    "row sec.": ("POLICY", "ROW SECURITY"),
    "GRANT": ("GRANT", "ROLES"),
    "SET ROLE": ("SET ROLE",),
    "files": ("FILES",),
    "settings": ("SETTINGS",),
}
"""Columns of the table of denials, and the actions that each counts."""


def privileges(results: Sequence[Result], declared: Sequence[Declared], *, postgresql: bool) -> list[str]:
    """A line for what each account may do with a table; tables of the same privileges are in one."""
    rows = {
        (own.runtime, name_of(access, own, verb, postgresql=postgresql)): " and ".join(
            f"{column} = {literal}" for column, literal in access.rows.items()
        )
        for own in declared
        for access in own.shared
        for verb in access.verbs
    }
    lines = [("account", "table", "may", "rows")]
    for account in dict.fromkeys(each.attempt.account for each in results):
        of_account = [each for each in results if each.attempt.account == account]
        by_privileges: dict[tuple[str, str], list[str]] = {}
        for table in dict.fromkeys(each.attempt.table for each in of_account):
            may = _may([each for each in of_account if each.attempt.table == table])
            if may:
                shown = rows.get((account, table), "") or ("all" if table else "")
                by_privileges.setdefault((may, shown), []).append(table or "new tables")
        for number, ((may, shown), tables) in enumerate(by_privileges.items()):
            lines.append((account if not number else "", ", ".join(tables), may, shown))
    return _table(lines, wrapped={1: 34, 2: 48})


def denials(results: Sequence[Result], rows: Sequence[RowAttempt]) -> list[str]:
    """How much each account was denied of what it tried."""
    lines = [("denied of tried", *_GROUPS, "by rows")]
    for account in dict.fromkeys(each.attempt.account for each in results):
        cells = []
        for actions in _GROUPS.values():
            tried = [
                each for each in results if each.attempt.account == account and each.attempt.action in actions
            ]
            denied = sum(each.outcome == DENIED for each in tried)
            cells.append(f"{denied}/{len(tried)}" if tried else "")
        by_rows = [each.found in (0, DENIED) for each in rows if each.account == account]
        cells.append(f"{sum(by_rows)}/{len(by_rows)}" if any(by_rows) else "")
        lines.append((account, *cells))
    columns = [each for each in zip(*lines, strict=True) if any(each[1:])]
    return _table(list(zip(*columns, strict=True)))


def verdict(results: Sequence[Result], rows: Sequence[RowAttempt]) -> list[str]:
    """The counts, and a line for each attempt that did not end as declared."""
    tried = len(results) + len(rows)
    differ = wrong(results, rows)
    counts = f"{tried} statements tried as the accounts themselves: {tried - len(differ)} as declared"
    return [counts + (f", {len(differ)} not:" if differ else "."), *(f"  WRONG {each}" for each in differ)]


def wrong(results: Sequence[Result], rows: Sequence[RowAttempt]) -> list[str]:
    """The attempts that did not end as declared, in words."""
    found = [_difference(each) for each in results if not each.as_declared]
    return found + [str(each) for each in rows if not each.as_declared]


def _may(results: Sequence[Result]) -> str:
    """What the server let an account do with a table."""
    allowed = [each.attempt for each in results if each.outcome == ALLOWED]
    if results[0].attempt.table and len(allowed) == len(results):
        return "all, as its owner"
    whole = [each.action for each in allowed if not each.column]
    if "DROP" in whole:
        return ", ".join(dict.fromkeys(whole))
    columns: dict[str, list[str]] = {}
    for each in allowed:
        if each.column and each.action not in whole:
            columns.setdefault(each.action, []).append(each.column)
    parts = [each for each in (*VERBS, "CREATE") if each in whole]
    by_columns: dict[str, list[str]] = {}
    for verb, names in columns.items():
        by_columns.setdefault(", ".join(names), []).append(verb)
    return "; ".join(
        filter(None, [", ".join(parts), *(f"{', '.join(v)} ({names})" for names, v in by_columns.items())])
    )


def _difference(result: Result) -> str:
    attempt = result.attempt
    column = f".{attempt.column}" if attempt.column else ""
    on = f" on {attempt.table}{column}" if attempt.table else f" ({attempt.statements[0]})"
    return f"{attempt.account}: {attempt.action}{on} is {'' if attempt.allowed else 'not '}declared: {result.outcome}"


def _table(lines: Sequence[Sequence[str]], wrapped: dict[int, int] | None = None) -> list[str]:
    """Lines in columns, of which some are wrapped at a width."""
    broken = [
        [list(_wrapped(cell, (wrapped or {}).get(number, _WIDTH))) for number, cell in enumerate(line)]
        for line in lines
    ]
    widths = [max(len(part) for line in broken for part in line[i]) for i in range(len(lines[0]))]
    found = []
    for line in broken:
        for i in range(max(map(len, line))):
            cells = (part[i] if i < len(part) else "" for part in line)
            found.append(
                "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            )
    return [found[0], "─" * max(map(len, found)), *found[1:]]


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
