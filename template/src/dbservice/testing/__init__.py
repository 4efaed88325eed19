"""Tools for the tests of a service: real servers, a migrated database, a client, example values."""

from .accounts_file import accounts_file_is_current
from .examples import example, make
from .others import Others
from .plugin import migrations_are_complete, revisions_are_safe, shared_tables, tables

__all__ = [
    "Others",
    "accounts_file_is_current",
    "example",
    "make",
    "migrations_are_complete",
    "revisions_are_safe",
    "shared_tables",
    "tables",
]
