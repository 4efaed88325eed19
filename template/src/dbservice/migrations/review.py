"""What is looked at before a revision is written: what is refused, what is dropped, what may only have got another name."""

from difflib import SequenceMatcher
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops

from ..errors import StartupError
from ..types import BigInteger, Enum, Integer, Numeric, String, Text
from .autogenerate import rank


def refuse_circles(tables: sa.MetaData) -> None:
    """Refuse tables of which none can come first. Raises StartupError."""
    keys = set()
    for table in tables.tables.values():
        for key in table.foreign_keys:
            try:
                parent = key.column.table
            except sa.exc.NoReferenceError:
                words = f"{table.name}.{key.parent.name} refers to {key.target_fullname}"
                raise StartupError(f"{words}, which tables.py does not have.") from None
            if parent is not table:
                keys.add((table.name, parent.name))
    while True:  # without what refers to none, and what none refers to, what is left goes round
        left = {(child, parent) for child, parent in keys if parent in {each for each, _ in keys}}
        left = {(child, parent) for child, parent in left if child in {each for _, each in left}}
        if left == keys:
            break
        keys = left
    if keys:
        raise StartupError(
            f"The foreign keys of {' and '.join(sorted({child for child, _ in keys}))} go round, so that no table can come"
            " first: make one of them a plain BigInteger() column without a ForeignKey."
        )


def refuse(script: ops.MigrationScript) -> None:
    """Refuse a change that the engines cannot make, or not in the same way. Raises StartupError."""
    for table in _changed(script):
        renamed = _renamed(table)
        for each in table.ops:
            if isinstance(each, ops.AlterColumnOp):
                _refuse_other_kind(each)
            if (
                isinstance(each, ops.AddColumnOp)
                and not each.column.nullable
                and not each.column.server_default
            ):
                sentence = (
                    f"{each.table_name}.{each.column.name} is required and has no default: rows that are there already would"
                    " have no value. Give it a default; or make it optional, fill it in, and require it one revision later."
                )
                if old := renamed.get(each.column.name):
                    sentence += (
                        f" If it is {each.table_name}.{old.column_name} renamed, make it optional for this revision, write"
                        f" {_rename(old, each.column.name)} in place of the two lines, and take the optional away again."
                    )
                raise StartupError(sentence)


def _refuse_other_kind(alter: ops.AlterColumnOp) -> None:
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


def dropped(script: ops.MigrationScript) -> list[str]:
    """What the revision drops with what it holds, and what to write if it was only renamed; for each a sentence's end."""
    found = [
        f"drops the table {each.table_name} with all its rows"
        for each in (script.upgrade_ops.ops if script.upgrade_ops else ())
        if isinstance(each, ops.DropTableOp)
    ]
    for table in _changed(script):
        renamed = {old.column_name: new for new, old in _renamed(table).items()}
        for each in table.ops:
            if isinstance(each, ops.DropColumnOp):
                sentence = f"drops {each.table_name}.{each.column_name} with what it holds"
                if new := renamed.get(each.column_name):
                    sentence += f"; if it was renamed to {new}, write {_rename(each, new)} in place of the two lines, and back in downgrade()"
                found.append(sentence)
    return found


def _changed(script: ops.MigrationScript) -> list[ops.ModifyTableOps]:
    operations = script.upgrade_ops.ops if script.upgrade_ops else ()
    return [each for each in operations if isinstance(each, ops.ModifyTableOps)]


def _renamed(table: ops.ModifyTableOps) -> dict[str, ops.DropColumnOp]:
    """For each new column the dropped one that it may be: of the same type, the likest first, each only once."""
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


def part_renamed(script: ops.MigrationScript) -> None:
    """Put columns that may be renamed into a block of their own, after what goes for them and before what comes: SQLite
    loses the new unique key of a column that is renamed in the same block, MySQL renames none that a CHECK needs."""
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
