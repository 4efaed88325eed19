"""SQL text that the backends share."""

import re
import string
from typing import Any
from urllib.parse import quote

from sqlalchemy.sql.compiler import IdentifierPreparer

from ..settings import Settings

# Quotes every identifier: SQLAlchemy's lists of reserved words are incomplete, and new versions reserve more words.
IdentifierPreparer.illegal_initial_characters = set(string.printable)


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


def read_url(scheme: str, settings: Settings, password: str) -> str:
    """The URL of the server for reads, percent-encoded."""
    host = f"[{settings.db_read_host}]" if ":" in settings.db_read_host else settings.db_read_host
    account = f"{quote(settings.db_user, safe='')}:{quote(password, safe='')}"
    return f"{scheme}://{account}@{host}:{settings.db_read_port}/{quote(settings.db_name, safe='')}"


def quoted(text: str) -> str:
    """A string literal for sessions without backslash escapes, which all sessions here are."""
    return "'" + text.replace("'", "''") + "'"


def escape_colons(text: str) -> str:
    """SQL for `sa.text`, with colons escaped so that none begins a parameter."""
    return re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", text)
