"""SQL text that the backends share."""

import re
import string
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.sql.compiler import IdentifierPreparer, SQLCompiler

from ..addresses import Address
from ..schema import access_of
from ..settings import Settings

# Quotes every identifier: SQLAlchemy's lists of reserved words are incomplete, and new versions reserve more words.
IdentifierPreparer.illegal_initial_characters = set(string.printable)


class OnlyRows(SQLCompiler):
    """SQLAlchemy's compiler, for which a table in FROM of which `access.py` declares only some rows is a subquery of them,
    or on an engine that has views for this, its view."""

    def visit_table(self, table: Any, *args: Any, **options: Any) -> str:
        access = access_of(table)
        if not options.get("asfrom") or access is None or not access.values:
            plain: str = super().visit_table(table, *args, **options)  # type: ignore[no-untyped-call]
            return plain
        if linter := options.pop("from_linter", None):
            linter.froms[table] = table.fullname
        alias = options.pop("enclosing_alias", None)
        row_view = getattr(self.dialect, "row_view", None)
        if row_view is not None:
            rows = self.preparer.quote(row_view(table.name))
        else:
            whole = sa.table(table.name, *(sa.column(each.name, each.type) for each in table.columns))
            select = sa.select(*whole.columns).where(*access.condition(whole))
            rows = f"({select._compiler_dispatch(self, **options)})"
        if alias is not None and alias.element is table:
            return rows  # visit_alias adds its name
        return f"{rows} AS {self.preparer.quote(table.name)}"


class ExactLike:
    """Mixin for SQLAlchemy's compilers: without `escape=`, LIKE has no escape character, as on SQLite."""

    no_escape = " ESCAPE ''"

    def visit_like_op_binary(self, *binary: Any, **options: Any) -> str:
        return self._plain("visit_like_op_binary", *binary, **options)

    def visit_not_like_op_binary(self, *binary: Any, **options: Any) -> str:
        return self._plain("visit_not_like_op_binary", *binary, **options)

    def _plain(self, visit: str, binary: Any, *operator: Any, **options: Any) -> str:
        sql: str = getattr(super(), visit)(binary, *operator, **options)
        return sql if binary.modifiers.get("escape") is not None else sql + self.no_escape


def read_url(scheme: str, settings: Settings, password: str, address: Address) -> str:
    """The URL of the server for reads, percent-encoded."""
    account = f"{quote(settings.db_user, safe='')}:{quote(password, safe='')}"
    return f"{scheme}://{account}@{address}/{quote(settings.db_name, safe='')}"


def quoted(text: str) -> str:
    """A string literal for sessions without backslash escapes, which all sessions here are."""
    return "'" + text.replace("'", "''") + "'"


def escape_colons(text: str) -> str:
    """SQL for `sa.text`, with colons escaped so that none begins a parameter."""
    return re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", text)
