"""Alembic for a service that shares its database: its own version table, only its own tables, one migration at a time."""

from .backfill import backfill
from .cancellation import CancelToken, run_cancellable
from .check import check_revisions
from .commands import differences, downgrade, is_applied, revision, upgrade
from .compatibility import Version, version_of
from .environment import Owner, run
from .locking import acquire_lock
from .shared import create_shared_tables
from .status import (
    VersionTableLocked,
    current,
    describe_mismatch,
    head,
    history_statement,
    knows,
    read_version,
    version_statement,
)

__all__ = [
    "CancelToken",
    "Owner",
    "Version",
    "VersionTableLocked",
    "acquire_lock",
    "backfill",
    "check_revisions",
    "create_shared_tables",
    "current",
    "describe_mismatch",
    "differences",
    "downgrade",
    "head",
    "history_statement",
    "is_applied",
    "knows",
    "read_version",
    "revision",
    "run",
    "run_cancellable",
    "upgrade",
    "version_of",
    "version_statement",
]
