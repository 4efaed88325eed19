"""The review of a revision before it is written: what is refused, what is dropped, what may be only renamed."""

from difflib import SequenceMatcher
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy import exc

from ..errors import StartupError
from ..types import BigInteger, Enum, Integer, Numeric, String, Text
from .autogenerate import rank
from .operations import AlterPrimaryKeyOp


def check_tables(tables: sa.MetaData) -> None:
    """Refuse tables that not every engine can create, or of which a later change could not be seen. Raises StartupError."""
    for table in tables.tables.values():
        for index in table.indexes:
            if not all(isinstance(each, sa.Column) for each in index.expressions):
                raise StartupError(
                    f"The index {index.name} of {table.name} has an expression or an order, which not every engine"
                    " supports: write column names only."
                )
        keys = [
            tuple(each.columns.keys()) for each in table.constraints if isinstance(each, sa.UniqueConstraint)
        ]
        for key in keys:
            if keys.count(key) > 1:
                raise StartupError(
                    f"{table.name} has two unique constraints on {', '.join(key)}: remove one."
                )
    _check_foreign_keys(tables)


def check_portable(script: ops.MigrationScript) -> None:
    """Refuse a change that the engines cannot make, or not in the same way. Raises StartupError."""
    for table in _changed(script):
        renamed = _renamed(table)
        for each in table.ops:
            if isinstance(each, AlterPrimaryKeyOp):
                raise StartupError(
                    f"The primary key of {each.table_name} is ({', '.join(each.old)}) and cannot become"
                    f" ({', '.join(each.new)}): add a table of another name, copy the rows into it, and drop"
                    f" {each.table_name} one revision later."
                )
            if isinstance(each, ops.AlterColumnOp):
                _check_type_change(each)
            if (
                isinstance(each, ops.AddColumnOp)
                and not each.column.nullable
                and not each.column.server_default
            ):
                sentence = (
                    f"{each.table_name}.{each.column.name} is required and has no default: existing rows would have no value."
                    " Give it a default; or write nullable=True, fill it, and remove nullable=True one revision later."
                )
                if old := renamed.get(each.column.name):
                    sentence += (
                        f" If it is {each.table_name}.{old.column_name} renamed, write nullable=True for this revision, write"
                        f" {_rename(old, each.column.name)} in place of the two lines, and remove nullable=True again."
                    )
                raise StartupError(sentence)


def _check_type_change(alter: ops.AlterColumnOp) -> None:
    old, new = alter.existing_type, alter.modify_type
    match old, new:
        case (_, None) | (String() | Text() | Enum(), String() | Text() | Enum()):
            return
        case (Integer() | BigInteger(), Integer() | BigInteger() | Numeric()):
            return
        case (Numeric(), Numeric()) if old.scale <= new.scale:
            return
    column = f"{alter.table_name}.{alter.column_name}"
    raise StartupError(
        f"{column} is {old!r} and cannot become {new!r}: add a column of another name, fill it, and drop {column} one"
        " revision later."
    )


def _check_foreign_keys(tables: sa.MetaData) -> None:
    """Refuse foreign keys to a table that is missing, and circular ones."""
    references = set()
    for table in tables.tables.values():
        for key in table.foreign_keys:
            try:
                parent = key.column.table
            except exc.NoReferenceError:
                column = f"{table.name}.{key.parent.name}"
                raise StartupError(
                    f"{column} refers to {key.target_fullname}, which neither tables.py nor access.py has."
                ) from None
            if parent is not table:
                references.add((table.name, parent.name))
    while True:  # remove tables that refer to none or that none refers to, until a circle is left or nothing
        left = {(child, parent) for child, parent in references if parent in {each for each, _ in references}}
        left = {(child, parent) for child, parent in left if child in {each for _, each in left}}
        if left == references:
            break
        references = left
    if references:
        raise StartupError(
            f"The foreign keys of {' and '.join(sorted({child for child, _ in references}))} are circular, so that no table"
            " can be created first: make one of them a plain BigInteger() column without a ForeignKey."
        )


def describe_drops(script: ops.MigrationScript) -> list[str]:
    """What the revision drops, and what to write if a column was only renamed; each without its subject, the revision."""
    found = [
        f"drops the table {each.table_name} with all its rows"
        for each in (script.upgrade_ops.ops if script.upgrade_ops else ())
        if isinstance(each, ops.DropTableOp)
    ]
    for table in _changed(script):
        renamed = {old.column_name: new for new, old in _renamed(table).items()}
        for each in table.ops:
            if isinstance(each, ops.DropColumnOp):
                sentence = f"drops {each.table_name}.{each.column_name} with its data"
                if new := renamed.get(each.column_name):
                    sentence += f"; if it was renamed to {new}, write {_rename(each, new)} in place of the two lines, and back in downgrade()"
                found.append(sentence)
    return found


def breaks_older_code(script: ops.MigrationScript) -> bool:
    """Whether the version before cannot read or write the tables afterwards: one of its tables or columns is gone, or a column
    holds values of another type. What the database then refuses, it refuses to both versions, as their clients' error."""
    if any(
        isinstance(each, ops.DropTableOp) for each in (script.upgrade_ops.ops if script.upgrade_ops else ())
    ):
        return True
    return any(
        isinstance(each, ops.DropColumnOp)
        or (isinstance(each, ops.AlterColumnOp) and _reads_differently(each.existing_type, each.modify_type))
        for table in _changed(script)
        for each in table.ops
    )


def _reads_differently(old: Any, new: Any) -> bool:
    whole = Integer | BigInteger
    return isinstance(old, whole) and new is not None and not isinstance(new, whole)


def _changed(script: ops.MigrationScript) -> list[ops.ModifyTableOps]:
    operations = script.upgrade_ops.ops if script.upgrade_ops else ()
    return [each for each in operations if isinstance(each, ops.ModifyTableOps)]


def _renamed(table: ops.ModifyTableOps) -> dict[str, ops.DropColumnOp]:
    """For each new column the dropped one that it may be: of the same type, the most similar name first, each only once."""
    drops = [each for each in table.ops if isinstance(each, ops.DropColumnOp)]
    news = [each.column for each in table.ops if isinstance(each, ops.AddColumnOp)]
    pairs = [
        (SequenceMatcher(None, old.column_name, new.name).ratio(), new.name, old)
        for new in news
        for old in drops
        if repr(old.to_column().type) == repr(new.type)
    ]
    found: dict[str, ops.DropColumnOp] = {}
    for _, new, old in sorted(pairs, key=lambda pair: -pair[0]):
        if new not in found and old not in found.values():
            found[new] = old
    return found


def isolate_renames(script: ops.MigrationScript) -> None:
    """Put columns that may be renamed into a block of their own, after the drops and before the creations of constraints:
    SQLite loses a unique key that is created in the block that renames its column, MySQL renames no column that a CHECK
    needs."""
    for table in _changed(script):
        renamed = _renamed(table)
        names = {*renamed, *(old.column_name for old in renamed.values())}
        parts: dict[int, list[Any]] = {0: [], 1: [], 2: []}
        for each in table.ops:
            if isinstance(each, ops.AddColumnOp):
                column: str | None = each.column.name
            else:
                column = each.column_name if isinstance(each, ops.DropColumnOp) else None
            parts[1 if column in names else 0 if rank(each) < 3 else 2].append(each)
        if names and script.upgrade_ops:
            at = script.upgrade_ops.ops.index(table)
            new = [ops.ModifyTableOps(table.table_name, part) for part in parts.values() if part]
            script.upgrade_ops.ops[at : at + 1] = new


def _rename(old: ops.DropColumnOp, new: str) -> str:
    return f"batch_op.alter_column({old.column_name!r}, new_column_name={new!r})"
