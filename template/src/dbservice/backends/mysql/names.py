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
    literal = re.sub(r"\\(.)", r"\1", pattern)
    wild = re.search(r"[%_]", re.sub(r"\\.", "", pattern))
    return f"databases like {pattern}" if wild else f"database {literal}"
