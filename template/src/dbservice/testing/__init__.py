"""Tools for the tests of a service: real servers, a migrated database, a client, example values."""

from .examples import example, make
from .plugin import migrations_are_complete, tables

__all__ = ["example", "make", "migrations_are_complete", "tables"]
