"""Alembic for a service that shares its database: its own version table, only its own tables, one migration at a time."""

from .cancellation import CancelToken, run_cancellable
from .commands import differences, downgrade, is_applied, revision, upgrade
from .environment import Owner, run
from .locking import acquire_lock
from .status import VersionTableLocked, current, describe_mismatch, head, read_version, version_statement

__all__ = [
    "CancelToken",
    "Owner",
    "VersionTableLocked",
    "acquire_lock",
    "current",
    "describe_mismatch",
    "differences",
    "downgrade",
    "head",
    "is_applied",
    "read_version",
    "revision",
    "run",
    "run_cancellable",
    "upgrade",
    "version_statement",
]
