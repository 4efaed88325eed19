"""What a service declares of its accounts: everything here follows from `tables.py`, `access.py` and the settings."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from ..schema import SharedTable
from ..settings import Settings
from ..types import ColumnType
from .history import tables_of_revisions

VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""What the run-time account may do with its own tables."""

ASSUMED_POOL_SIZE = 10
"""The DB_POOL_SIZE that connection limits count with where it is not set. The pool itself follows the cores of the machine then,
which an administrator's machine knows nothing of; this is that of 4 cores, and a service with more sets DB_POOL_SIZE."""

MIGRATIONS = 20
"""As many `migrate` run at once at least, or one for each replica of a roll-out."""

MIGRATE = "-migrate"
"""How the names of all services' migration accounts end."""
_LONGEST_NAME = 64


@dataclass(frozen=True)
class TableAccess:
    """The access to a table that another service owns."""

    table: str
    columns: tuple[str, ...]
    verbs: tuple[str, ...]
    """SELECT, and INSERT, UPDATE, DELETE where the access is read-write."""
    rows: Mapping[str, str]
    """SQL literals by column: only rows with these values; empty for all rows."""


@dataclass(frozen=True)
class Declared:
    """The accounts of one service and what they may do."""

    service: str
    package: str
    database: str
    schema: str
    runtime: str
    """`<service>-rw`, or `<service>-ro` for a service that owns nothing and only reads."""
    migrate: str | None
    """`<service>-migrate`; None for a service that owns nothing."""
    own: tuple[str, ...]
    version_table: str
    journal: str
    """Where MySQL and MariaDB keep the statements of an interrupted revision."""
    lock_table: str
    """Where migrations on a Galera cluster keep their lock; on no other server it exists. As the journal, the migration
    account creates and uses it, and the run-time account may do nothing with it."""
    shared: tuple[TableAccess, ...]
    pool_size: int
    """DB_POOL_SIZE, or ASSUMED_POOL_SIZE."""
    replicas: int
    former: tuple[str, ...] = ()
    """Tables that revisions make and tables.py has no more: `migrate` makes and drops them in an empty database."""
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Columns of other services' tables that foreign keys refer to, by table."""
    require_ssl: bool = False
    """Whether the accounts may only connect with TLS; PostgreSQL has this in pg_hba.conf."""

    @property
    def accounts(self) -> tuple[str, ...]:
        return (self.runtime, self.migrate) if self.migrate else (self.runtime,)

    def connections(self, account: str) -> int:
        """The connection limit of an account: for the run-time account that of all replicas, twice, since a roll-out has old and
        new ones. Each has besides its pool the health check and a connection that cancels a statement. A migration that waits
        for the lock has one connection, and may have closed one that the server still counts."""
        if account == self.migrate:
            return 2 * max(MIGRATIONS, 2 * self.replicas)
        return 2 * self.replicas * (self.pool_size + 2)

    @property
    def migrated(self) -> tuple[str, ...]:
        """The tables that the migration account owns."""
        return (*self.own, self.version_table) if self.migrate else ()


def row_view(table: str, package: str) -> str:
    """The view of `table` in which the service `package` reads, changes and deletes its rows, on MySQL and MariaDB; 64
    characters at most. A table without `rows` is used itself."""
    return _view_name(f"{table}_of_{package}")


def insert_view(table: str, package: str) -> str:
    """The view into which it inserts them. ON DUPLICATE KEY UPDATE and REPLACE reach the row that has the key already, which
    no view hides from them; they need UPDATE or DELETE on the view with INSERT, so that one has neither."""
    return _view_name(f"{table}_inserts_of_{package}")


def _view_name(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9].rstrip('_')}_{digest}"


class DeclaringService(Protocol):
    """What the accounts must know of a service."""

    name: str
    package: str
    schema: str
    version_table: str
    tables: sa.MetaData
    migrations: Path
    shared: Sequence[type[SharedTable]]


def declared_of(
    service: DeclaringService,
    settings: Settings,
    literal: Callable[[ColumnType, Any], str],
    *,
    require_ssl: bool = False,
) -> Declared:
    """The accounts of `service`. The pool size and the number of replicas in `settings` count; `literal` writes a value as
    SQL."""
    own = tuple(sorted(service.tables.tables))
    shared = tuple(sorted((_access(each, literal) for each in service.shared), key=lambda each: each.table))
    return Declared(
        service=service.name,
        package=service.package,
        database=settings.db_name,
        schema=service.schema,
        runtime=f"{service.name}-{'ro' if only_reads(service) else 'rw'}",
        migrate=f"{service.name}{MIGRATE}" if own else None,
        own=own,
        version_table=service.version_table,
        journal=f"alembic_journal_{service.package}",
        lock_table=lock_table(service.name),
        shared=shared,
        pool_size=settings.db_pool_size if "db_pool_size" in settings.model_fields_set else ASSUMED_POOL_SIZE,
        replicas=settings.replicas,
        former=tuple(sorted(tables_of_revisions(service.migrations / "versions") - {*own})),
        references=_references(service.tables),
        require_ssl=require_ssl,
    )


def lock_table(service: str) -> str:
    """The name of the table with the migration lock of a service."""
    return f"alembic_lock_{service.replace('-', '_')}"


def only_reads(service: DeclaringService) -> bool:
    """Whether the service owns no table and writes to none: its accounts of the database and the cache may only read."""
    return not service.tables.tables and all(each.__access__.mode == "read" for each in service.shared)


def _references(tables: sa.MetaData) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for key in (key for table in tables.tables.values() for key in table.foreign_keys):
        *_, table, column = key.target_fullname.split(".")
        if table not in tables.tables:
            found.setdefault(table, set()).add(column)
    return {table: tuple(sorted(columns)) for table, columns in sorted(found.items())}


def _access(shared: type[SharedTable], literal: Callable[[ColumnType, Any], str]) -> TableAccess:
    table, access = shared.__table__, shared.__access__
    rows: dict[str, str] = {}
    for name, written in access.rows.items():
        column_type = table.columns[name].type
        assert isinstance(column_type, ColumnType)
        rows[name] = literal(column_type, column_type.from_json(written))
    verbs = VERBS if access.mode == "read-write" else VERBS[:1]
    return TableAccess(table.name, tuple(each.name for each in table.columns), verbs, rows)
