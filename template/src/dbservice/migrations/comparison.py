"""What Alembic does not compare: defaults, CHECKs, primary keys, the order of columns in a unique constraint and the names of
foreign keys. An Alembic plugin; `autogenerate` loads it."""

import json
import re
import sys
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult

from ..backends.sql import escape_colons
from ..types import ColumnType, Default, Enum, EnumCheck
from .operations import AlterPrimaryKeyOp, CreateCheckOp

PLUGIN = "dbservice.comparison"

_CONTINUE = PriorityDispatchResult.CONTINUE


def setup(plugin: Plugin) -> None:
    """Register the comparisons. Called by Alembic."""
    plugin.add_autogenerate_comparator(_compare_default, "column", "server_default")
    plugin.add_autogenerate_comparator(_compare_primary_key, "table", "primarykey")
    plugin.add_autogenerate_comparator(_compare_column_order, "table", "uniqueorder")
    plugin.add_autogenerate_comparator(_compare_checks, "table", "checkconstraints")
    plugin.add_autogenerate_comparator(
        _compare_foreign_key_names, "table", "foreignkeynames", priority=DispatchPriority.LAST
    )


def enum_check(context: AutogenContext, check: sa.CheckConstraint, table: sa.Table) -> EnumCheck | None:
    """`check` as the CHECK of an enum column of `table`, declared or read back; None for another one."""
    if isinstance(check, EnumCheck):
        return check
    impl = context.migration_context.impl
    for column in table.columns:
        if isinstance(column.type, Enum):
            found: Any = column.type.check_constraint(column.name)
            if impl.compare_check_constraint(found, check).is_equal:
                return found  # type: ignore[no-any-return]
    return None


def final_name(context: AutogenContext, constraint: Any) -> str:
    """The name that a declared constraint has in the database, unquoted."""
    assert context.dialect is not None
    preparer = context.dialect.identifier_preparer
    return str(preparer.format_constraint(constraint, _alembic_quote=False))


def _compare_default(
    context: AutogenContext, alter: Any, _: Any, __: Any, ___: Any, existing: Any, declared: Any
) -> PriorityDispatchResult:
    if isinstance(existing.server_default, sa.Identity) or not isinstance(existing.type, ColumnType):
        return _CONTINUE  # the servers rewrite a default: it cannot be compared
    alter.existing_server_default = existing.server_default
    if _default_of(existing) != _default_of(declared):
        alter.modify_server_default = declared.server_default
        # nullable is repeated so that MySQL alters the whole column: the default of a text alone it does not change
        alter.existing_nullable, alter.modify_nullable = existing.nullable, declared.nullable
    return _CONTINUE


def _default_of(column: sa.Column[Any]) -> str | None:
    default = getattr(column.server_default, "arg", None)
    if isinstance(default, Default):
        return json.dumps(msgspec.to_builtins(default.value, enc_hook=str), sort_keys=True)
    return None if default is None else str(default)


def _compare_primary_key(
    context: AutogenContext, modify: Any, _: Any, name: Any, existing: Any, declared: Any
) -> PriorityDispatchResult:
    if existing is None or declared is None:
        return _CONTINUE
    assert context.inspector is not None
    found = list(context.inspector.get_pk_constraint(name)["constrained_columns"])
    wanted = [column.name for column in declared.primary_key.columns]
    if found != wanted:
        modify.ops.append(AlterPrimaryKeyOp(name, found, wanted))
    return _CONTINUE


def _compare_column_order(
    context: AutogenContext, modify: Any, _: Any, name: Any, existing: Any, declared: Any
) -> PriorityDispatchResult:
    """Alembic compares the columns of a unique constraint, and not their order."""
    if existing is None or declared is None:
        return _CONTINUE
    assert context.inspector is not None
    found = {each["name"]: each["column_names"] for each in context.inspector.get_unique_constraints(name)}
    for constraint in _constraints(declared, sa.UniqueConstraint):
        columns = found.get(final_name(context, constraint), [])
        wanted = [column.name for column in constraint.columns]
        if columns != wanted and sorted(columns) == sorted(wanted):
            old = sa.UniqueConstraint(*(existing.c[each] for each in columns), name=constraint.name)
            modify.ops += [
                ops.DropConstraintOp.from_constraint(old),
                ops.AddConstraintOp.from_constraint(constraint),
            ]
    return _CONTINUE


def _compare_checks(
    context: AutogenContext, modify: Any, _: Any, name: Any, existing: Any, declared: Any
) -> PriorityDispatchResult:
    """By name; an enum's also by its values, and on an engine that keeps the text of a CHECK also by text."""
    if existing is None or declared is None:
        return _CONTINUE
    assert context.inspector is not None
    impl = context.migration_context.impl
    wanted = {final_name(context, each): each for each in _constraints(declared, sa.CheckConstraint)}
    for found in context.inspector.get_check_constraints(name):
        if not (check_name := found["name"]):
            continue
        text = found["sqltext"]
        old = sa.CheckConstraint(escape_colons(text), name=sa.schema.conv(check_name))
        new = wanted.get(check_name)
        if isinstance(new, EnumCheck):
            same = set(new.column_type.values) == set(re.findall(r"'([^'\\]*)\\?'", text))
        else:
            same = new is not None and impl.compare_check_constraint(new, old).is_equal
        if same:
            del wanted[check_name]
        else:
            create = CreateCheckOp(check_name, name, enum_check(context, old, existing) or old)
            modify.ops.append(create.reverse())
    modify.ops += [CreateCheckOp(check_name, name, check) for check_name, check in wanted.items()]
    return _CONTINUE


def _compare_foreign_key_names(
    context: AutogenContext, modify: Any, _: Any, name: Any, existing: Any, declared: Any
) -> PriorityDispatchResult:
    """Alembic compares foreign keys, and not their names, by which a later revision finds them."""
    if existing is None or declared is None:
        return _CONTINUE
    dropped = {each.constraint_name for each in modify.ops if isinstance(each, ops.DropConstraintOp)}
    found = {_reference(key): key for key in existing.foreign_key_constraints if key.name not in dropped}
    for key in declared.foreign_key_constraints:
        old = found.get(_reference(key))
        if old is not None and old.name != final_name(context, key):
            modify.ops += [
                ops.DropConstraintOp.from_constraint(old),
                ops.AddConstraintOp.from_constraint(key),
            ]
    return _CONTINUE


def _reference(key: sa.ForeignKeyConstraint) -> tuple[Any, ...]:
    return tuple(key.column_keys), tuple(each.target_fullname for each in key.elements)


def _constraints(table: sa.Table, kind: type[Any]) -> list[Any]:
    """The constraints of a kind, in an order that does not change from run to run."""
    return sorted(
        (each for each in table.constraints if isinstance(each, kind)), key=lambda each: str(each.name)
    )


Plugin.setup_plugin_from_module(sys.modules[__name__], PLUGIN)
