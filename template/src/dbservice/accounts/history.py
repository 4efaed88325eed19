"""The tables that a service's revisions make, also those that it does not declare any more."""

import ast
import re
from pathlib import Path

_SQL = re.compile(
    r"\b(?:CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?|RENAME\s+(?:\S+\s+)?TO\s+)[`\"]?(\w+)", re.IGNORECASE
)


def tables_of_revisions(versions: Path) -> set[str]:
    """Their names, from the text of the revisions in a folder: `op.create_table`, `op.rename_table`, and SQL.

    `migrate` begins with an empty database, and so makes and drops what older revisions had."""
    return {
        table
        for path in versions.glob("*.py")
        for table in _tables_in(ast.parse(path.read_text(encoding="utf-8")))
    }


def _tables_in(revision: ast.Module) -> set[str]:
    found = set()
    for call in ast.walk(revision):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        texts = [
            each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        match call.func.attr:
            case "create_table":
                found |= set(texts[:1])
            case "rename_table":
                found |= set(texts[:2])
            case "execute" | "exec_driver_sql" | "text":
                found |= {table for text in texts for table in _SQL.findall(text)}
    return found
