"""Alembic for a service that shares its database: its own version table, only its own tables, one runner at a time."""

from .commands import differences, migrate_to, revision, upgrade
from .environment import Owner, run
from .status import current, describe_mismatch, head, read_version, version_statement

__all__ = [
    "Owner",
    "current",
    "describe_mismatch",
    "differences",
    "head",
    "migrate_to",
    "read_version",
    "revision",
    "run",
    "upgrade",
    "version_statement",
]
