"""What differs between a database and `tables.py`, as Alembic operations in an order that every engine takes."""

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext

from ..types import Default
from . import comparison
from .operations import BackfillOp


def compare(connection: sa.Connection, tables: sa.MetaData, **options: Any) -> ops.MigrationScript:
    """The operations that lead from the database to `tables`, and back."""
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "autogenerate_plugins": [
                "alembic.autogenerate.*",
                "~alembic.autogenerate.defaults",
                comparison.PLUGIN,
            ],
            **options,
        },
    )
    script = produce_migrations(context, tables)
    existing = [name for name, _ in sa.inspect(connection).get_sorted_table_and_fkc_names() if name]
    declared = [table.name for table in tables.sorted_tables]
    for up in script.upgrade_ops_list:
        _sort(up, [*declared, *existing])
        _backfill(up)
    for down in script.downgrade_ops_list:
        _sort(down, [*existing, *declared])
        _backfill(down)
    return script


def rank(operation: Any) -> int:
    """The place of an operation among those on one table: drops of what refers to columns first, columns, then creations."""
    match operation:
        case ops.DropConstraintOp():
            return 2 if operation.constraint_type == "unique" else 0
        case ops.DropIndexOp():
            return 1
        case ops.AddColumnOp():
            return 3
        case ops.AlterColumnOp():
            return 4
        case ops.CreateUniqueConstraintOp() | ops.CreateIndexOp():
            return 5
        case ops.DropColumnOp():  # last: nothing that can fail comes after an irreversible operation
            return 7
    return 6


def _sort(container: Any, parents_first: list[str]) -> None:
    """New and changed tables, parents first, then dropped ones, children first. A foreign key is dropped before the key
    that it refers to."""

    def place(operation: Any) -> int:
        return parents_first.index(operation.table_name)

    dropped = sorted((each for each in container.ops if isinstance(each, ops.DropTableOp)), key=place)[::-1]
    # a table takes its indexes with it; MySQL refuses to drop one that a foreign key needs
    gone = {each.table_name for each in dropped}
    changed = [
        each for each in container.ops if isinstance(each, ops.ModifyTableOps) and each.table_name not in gone
    ]
    for each in changed:
        each.ops.sort(key=rank)
    made = [each for each in container.ops if isinstance(each, ops.CreateTableOp)] + changed
    made.sort(key=place)  # stable: a new table comes before its indexes
    lost = {(each.table_name, column) for each in changed for column in _lost_columns(each)}
    if any(
        lost & _referred_columns(key) for each in dropped for key in each.to_table().foreign_key_constraints
    ):
        first = _split(made, lambda key: bool(lost & _referred_columns(key)) or _referred_table(key) in gone)
        container.ops = [*first, *dropped, *made]
    else:
        container.ops = [*_split(made, lambda key: bool(lost & _referred_columns(key))), *made, *dropped]


def _lost_columns(table: ops.ModifyTableOps) -> Iterator[str]:
    """The columns that a foreign key may not be able to refer to any more, once the table is changed."""
    for each in table.ops:
        if isinstance(each, ops.DropColumnOp):
            yield each.column_name
        elif isinstance(each, ops.DropIndexOp):
            yield from each.to_index().columns.keys()
        elif isinstance(each, ops.DropConstraintOp) and each.constraint_type == "unique":
            yield from each.to_constraint().columns.keys()  # type: ignore[attr-defined]


def _split(made: list[Any], early: Callable[[Any], bool]) -> list[ops.ModifyTableOps]:
    """Take drops of foreign keys to other tables out of the changes, for a place in front of all of them."""
    found = []
    for table in [each for each in made if isinstance(each, ops.ModifyTableOps)]:
        drops: list[Any] = []
        for each in table.ops:
            if isinstance(each, ops.DropConstraintOp) and each.constraint_type == "foreignkey":
                key = each.to_constraint()
                if _referred_table(key) != table.table_name and early(key):
                    drops.append(each)
        if drops:
            found.append(ops.ModifyTableOps(table.table_name, drops))
            table.ops[:] = [each for each in table.ops if each not in drops]
            if not table.ops:
                made.remove(table)
    return found


def _referred_table(key: Any) -> str:
    return str(key.elements[0].target_fullname).rpartition(".")[0]


def _referred_columns(key: Any) -> set[tuple[str, str]]:
    return {(_referred_table(key), each.target_fullname.rpartition(".")[2]) for each in key.elements}


def _backfill(container: Any) -> None:
    """Fill a column that becomes required with its default where it is NULL, after the table's other changes."""
    for table in [each for each in container.ops if isinstance(each, ops.ModifyTableOps)]:
        fills: list[Any] = []
        last: list[Any] = []
        for each in [each for each in table.ops if isinstance(each, ops.AlterColumnOp)]:
            default = each.modify_server_default
            default = each.existing_server_default if default is False else default
            value = getattr(default, "arg", default)
            if each.modify_nullable is not False or not each.existing_nullable:
                continue
            if not isinstance(value, Default):
                continue
            fills.append(BackfillOp(each.table_name, each.column_name, value))
            last.append(
                ops.AlterColumnOp(
                    each.table_name,
                    each.column_name,
                    existing_type=each.existing_type if each.modify_type is None else each.modify_type,
                    existing_server_default=default,  # pyright: ignore[reportArgumentType]
                    existing_nullable=True,
                    modify_nullable=False,
                )
            )
            each.modify_nullable = None
            if each.has_changes():
                each.modify_nullable = True  # repeated for MySQL, which needs the whole column
            else:
                table.ops.remove(each)
        if fills:
            at = container.ops.index(table)
            then = ops.ModifyTableOps(table.table_name, last)
            container.ops[at : at + 1] = [*([table] if table.ops else []), *fills, then]
