"""Names in SQL for accounts and what they may use."""

import re

from ...accounts.declared import Declared
from ..sql import quoted

HOST = "%"
"""The host of the accounts: they may connect from everywhere."""


def name(identifier: str) -> str:
    return "`" + identifier.replace("`", "``") + "`"


def bare(quoted_name: str) -> str:
    """The name without its quotation marks."""
    return quoted_name[1:-1].replace("``", "`")


def account_name(account: str, host: str = HOST) -> str:
    return f"{quoted(account)}@{quoted(host)}"


def qualified(declared: Declared, table: str) -> str:
    return f"{name(declared.database)}.{name(table)}"


def shown_database(pattern: str) -> str:
    """The object of a database-level grant, whose name is a pattern: `_` and `%` without a backslash are wildcards."""
    wild = re.search(r"[%_]", re.sub(r"\\.", "", pattern))
    return f"databases like {pattern}" if wild else "database " + _ESCAPED.sub(r"\1", pattern)


def covers(shown: str, database: str) -> bool:
    """Whether a grant on the object that `shown_database` or `*.*` describes holds for all that is in the database."""
    kind, _, pattern = shown.partition(" like ")
    if kind != "databases":
        return shown in ("*.*", f"database {database}")
    words = re.sub(
        r"\\(.)|(.)",
        lambda each: re.escape(each[1]) if each[1] else _WILD.get(each[2], re.escape(each[2])),
        pattern,
    )
    return re.fullmatch(words, database, re.DOTALL) is not None


_ESCAPED = re.compile(r"\\(.)")
_WILD = {"%": ".*", "_": "."}
