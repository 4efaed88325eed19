"""What differs between a database and `tables.py`, as Alembic operations in an order that every engine takes."""

import json
import re
import sys
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic.autogenerate import produce_migrations
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.runtime.plugins import Plugin
from alembic.util import PriorityDispatchResult

from ..schema import constraint_name
from ..types import ColumnType, Default, Enum, EnumCheck
from .operations import AddCheckOp, BackfillOp

PLUGIN = "dbservice.revisions"

_CONTINUE = PriorityDispatchResult.CONTINUE


def changes(connection: sa.Connection, tables: sa.MetaData, **options: Any) -> ops.MigrationScript:
    """What leads from the database to `tables`, and back, in an order that every engine takes."""
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "autogenerate_plugins": ["alembic.autogenerate.*", "~alembic.autogenerate.defaults", PLUGIN],
            **options,
        },
    )
    script = produce_migrations(context, tables)
    parents_first = [name for name, _ in sa.inspect(connection).get_sorted_table_and_fkc_names() if name]
    parents_first += [table.name for table in tables.sorted_tables]
    for container in (*script.upgrade_ops_list, *script.downgrade_ops_list):
        _sort(container, parents_first)
        _fill(container)
    return script


def _sort(container: Any, parents_first: list[str]) -> None:
    """New tables, then changed ones, then dropped ones, children before their parents."""
    created = [each for each in container.ops if isinstance(each, ops.CreateTableOp)]
    dropped = [each for each in container.ops if isinstance(each, ops.DropTableOp)]
    created.sort(key=lambda each: parents_first.index(each.table_name))
    dropped.sort(key=lambda each: parents_first.index(each.table_name), reverse=True)
    # a table takes its indexes with it; MySQL refuses to drop one that a foreign key needs
    gone = {each.table_name for each in dropped}
    changed = [
        each for each in container.ops if isinstance(each, ops.ModifyTableOps) and each.table_name not in gone
    ]
    for each in changed:
        each.ops.sort(key=rank)
    container.ops = [*created, *changed, *dropped]


def rank(operation: Any) -> int:
    """Where an operation stands: what refers goes before what is referred to, and comes after it."""
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
        case ops.DropColumnOp():  # at the end: nothing that fails comes after what is gone for good
            return 7
    return 6


def _fill(container: Any) -> None:
    """A column that becomes required gets its default where it is empty, between what else changes and that."""
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
                    existing_server_default=default,
                    existing_nullable=True,
                    modify_nullable=False,
                )
            )
            each.modify_nullable = None
            if each.has_changes():
                each.modify_nullable = True  # said anew, for MySQL
            else:
                table.ops.remove(each)
        if fills:
            at = container.ops.index(table)
            then = ops.ModifyTableOps(table.table_name, last)
            container.ops[at : at + 1] = [*([table] if table.ops else []), *fills, then]


def setup(plugin: Plugin) -> None:
    """Called by Alembic."""
    plugin.add_autogenerate_comparator(_compare_default, "column", "server_default")
    plugin.add_autogenerate_comparator(_compare_checks, "table", "checkconstraints")


def _compare_default(
    context: AutogenContext, alter: Any, _: Any, __: Any, ___: Any, existing: Any, declared: Any
) -> PriorityDispatchResult:
    if isinstance(existing.server_default, sa.Identity) or not isinstance(existing.type, ColumnType):
        return _CONTINUE  # other engines rewrite a default, so that nobody can tell
    alter.existing_server_default = existing.server_default
    if _default_of(existing) != _default_of(declared):
        alter.modify_server_default = declared.server_default
        # said anew, it makes MySQL alter the whole column: the default of a text alone it does not change
        alter.existing_nullable, alter.modify_nullable = existing.nullable, declared.nullable
    return _CONTINUE


def _default_of(column: sa.Column[Any]) -> str | None:
    default = getattr(column.server_default, "arg", None)
    if isinstance(default, Default):
        return json.dumps(msgspec.to_builtins(default.value, enc_hook=str), sort_keys=True)
    return None if default is None else str(default)


def _compare_checks(
    context: AutogenContext, modify: Any, _: Any, name: Any, existing: Any, declared: Any
) -> PriorityDispatchResult:
    """The CHECKs of enum columns: Alembic sees none."""
    if existing is None or declared is None:
        return _CONTINUE
    checks = [each for each in declared.constraints if isinstance(each, EnumCheck)]
    new = {constraint_name("ck", name, [each.column_name]): each for each in checks}
    names = {constraint_name("ck", name, [each.name]): each.name for each in existing.columns}
    others = {each.name for each in declared.constraints if not isinstance(each, EnumCheck)}
    assert context.inspector is not None
    for each in context.inspector.get_check_constraints(name):
        if (old_name := each["name"]) not in names or not old_name or old_name in others:
            continue
        values = re.findall(r"'([^'\\]*)\\?'", each["sqltext"])
        if not values:  # a CHECK of another kind, named after a column
            continue
        old = Enum(*values)
        if old_name in new and set(new[old_name].column_type.values) == set(old.values):
            del new[old_name]
        else:
            modify.ops.append(AddCheckOp(old_name, name, names[old_name], old).reverse())
    for new_name, check in new.items():
        modify.ops.append(AddCheckOp(new_name, name, check.column_name, check.column_type))
    return _CONTINUE


Plugin.setup_plugin_from_module(sys.modules[__name__], PLUGIN)
