"""Names of constraints and indexes: unique, the same on every engine, and valid on all of them.

One column: `uq_users_email`, `ix_…`, `fk_…`; a CHECK: `ck_<table>_<its own name>`; a primary key: `pk_<table>`. With
several columns, all of them and a hash. A name of more than 60 characters is truncated and ends in a hash."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

MAX_LENGTH = 60
"""PostgreSQL allows 63 bytes, MySQL 64 characters; SQLAlchemy would shorten longer names differently on each."""


def constraint_name(kind: str, table: str, columns: Sequence[str] = ()) -> str:
    """The name of a constraint or index: `kind` is pk, uq, ix, fk or ck (then `columns` is the name of the CHECK)."""
    name = "_".join([kind, table, *columns])
    if len(columns) < 2 and len(name) <= MAX_LENGTH:
        return name
    digest = hashlib.sha256(f"{table}({','.join(columns)})".encode()).hexdigest()[:6]
    return f"{name[: MAX_LENGTH - 7].rstrip('_')}_{digest}"


def _conventional_name(constraint: Any, table: sa.Table) -> str:
    columns = _columns(constraint)
    match constraint:
        case sa.PrimaryKeyConstraint():
            return constraint_name("pk", table.name)
        case sa.CheckConstraint():
            if constraint.name is None:
                raise ValueError(
                    f'{table.name}: write a name for the CheckConstraint, CheckConstraint(..., name="...")'
                )
            return constraint_name("ck", table.name, [str(constraint.name)])
        case sa.ForeignKeyConstraint():
            return constraint_name("fk", table.name, columns)
        case sa.Index() if not columns:
            raise ValueError(f'{table.name}: an index without columns needs a name, Index("ix_...", ...)')
    return constraint_name("ix" if isinstance(constraint, sa.Index) else "uq", table.name, columns)


NAMING_CONVENTION: dict[str, Any] = {
    **dict.fromkeys(("pk", "uq", "ix", "fk"), "%(conventional_name)s"),
    # SQLAlchemy applies a convention to a named constraint only if it contains `constraint_name`
    "ck": "%(conventional_constraint_name)s",
    "conventional_name": _conventional_name,
    "conventional_constraint_name": _conventional_name,
}
"""The `naming_convention` of the MetaData of owned tables."""


def refuse_same_names(table: sa.Table) -> None:
    """Raises ValueError for a name in `table` that exists in its MetaData already, or that is too long."""
    taken: dict[str, str] = {}
    for other in table.metadata.tables.values():
        if other is not table:
            taken |= dict(_names(other))
    for name, what in _names(table):
        if len(name) > MAX_LENGTH:
            raise ValueError(f"the name {name} has {len(name)} characters; write at most {MAX_LENGTH}")
        if name in taken:
            raise ValueError(f"{taken[name]} and {what} are both named {name}; give one a name of its own")
        taken[name] = what


def _names(table: sa.Table) -> Iterator[tuple[str, str]]:
    """The names that a table uses in the database, each with a description of the object."""
    yield table.name, f"the table {table.name}"
    for column in table.columns:
        if column.identity is not None:
            yield f"{table.name}_{column.name}_seq", f"PostgreSQL's sequence of {table.name}.{column.name}"
    named: list[Any] = [*table.constraints, *table.indexes]
    for each in named:
        if isinstance(each.name, str):
            kind = "the index" if isinstance(each, sa.Index) else f"the {type(each).__name__}"
            yield each.name.lower(), f"{kind} on {table.name}({', '.join(_columns(each))})"


def _columns(constraint: Any) -> list[str]:
    if isinstance(constraint, sa.ForeignKeyConstraint):
        return list(constraint.column_keys)
    return [column.name for column in constraint.columns]
