"""Revisions as text: what differs between a database and `tables.py`, written so that it reads and works the same on
every engine."""

import importlib.util
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.runtime.plugins import Plugin
from alembic.util import PriorityDispatchResult

from .schema import constraint_name
from .types import ColumnType, Default, Enum, EnumCheck

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


def rendered(container: Any) -> str:
    """The operations as Python, indented as the body of a function."""
    if container.is_empty():
        return "pass"
    text = render_python_code(container, render_as_batch=True, render_item=_render)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("# ###")]
    return (
        "\n".join(lines)
        .replace(", schema=None)", ")")
        .replace("Identity(always=False)", "Identity()")
        .strip()
    )


def write(
    path: Path, message: str, before: str | None, script: ops.MigrationScript, notes: list[str]
) -> None:
    """Write the file of a revision whose id is the file's name; `notes` say what to know before it runs."""
    up, down = (rendered(each) for each in (script.upgrade_ops, script.downgrade_ops))
    own = "\nfrom dbservice import types\n" if re.search(r"\btypes\.", up + down) else ""
    alchemy = "import sqlalchemy as sa\n" if re.search(r"\bsa\.", up + down) else ""
    about = _in_docstring(" ".join(message.split()))
    said = "".join(f"\n{_in_docstring(textwrap.fill(f'It {note}.', 100))}\n" for note in notes)
    text = _FILE.format(
        about=about, revision=path.stem, before=before, revises=f" {before}" if before else "", own=own,
        alchemy=alchemy, up=up, down=down, notes=said,
    )  # fmt: skip
    path.write_text(text, encoding="utf-8")
    if importlib.util.find_spec("ruff"):  # a tool of development: `make check` is content right away
        for words in (["check", "--fix-only"], ["format"]):
            subprocess.run([sys.executable, "-m", "ruff", *words, "--quiet", path], check=False)


def _in_docstring(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


_FILE = '''"""{about}

Revision ID: {revision}
Revises:{revises}
{notes}"""

{alchemy}from alembic import op
{own}
revision = {revision!r}
down_revision = {before!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    {up}


def downgrade() -> None:
    {down}
'''


# --- the order of the operations


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
            fills.append(_Fill(each.table_name, each.column_name, value))
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


class _Fill(ops.MigrateOperation):
    """An UPDATE that puts the default where a column is empty."""

    def __init__(self, table: str, column: str, default: Default) -> None:
        self.table, self.column, self.default = table, column, default


@renderers.dispatch_for(_Fill)
def _render_fill(_: AutogenContext, fill: _Fill) -> str:
    column, default = fill.column, fill.default
    return (
        f"op.execute(sa.table({fill.table!r}, sa.column({column!r})).update()"
        f".where(sa.column({column!r}).is_(None))"
        f".values({{{column!r}: types.{default.column!r}.default({default.written!r})}}))"
    )


# --- what Alembic does not compare


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
            modify.ops.append(_AddCheck(old_name, name, names[old_name], old).reverse())
    for new_name, check in new.items():
        modify.ops.append(_AddCheck(new_name, name, check.column_name, check.column_type))
    return _CONTINUE


class _AddCheck(ops.CreateCheckConstraintOp):
    """A CHECK of an enum column."""

    def __init__(self, name: str, table: str, column: str, column_type: Enum) -> None:
        super().__init__(name, table, column_type.check_constraint(column).sqltext)
        self.column, self.column_type = column, column_type

    def reverse(self) -> "_DropCheck":
        return _DropCheck(self)


class _DropCheck(ops.DropConstraintOp):
    def __init__(self, added: _AddCheck) -> None:
        super().__init__(added.constraint_name, added.table_name, type_="check", _reverse=added)
        self.added = added

    def reverse(self) -> _AddCheck:
        return self.added


@renderers.dispatch_for(_AddCheck)
def _render_check(_: AutogenContext, operation: _AddCheck) -> str:
    name = f"batch_op.f({str(operation.constraint_name)!r})"
    condition = f"types.{operation.column_type!r}.check_constraint({operation.column!r}).sqltext"
    return f"batch_op.create_check_constraint({name}, {condition})"


@renderers.dispatch_for(_DropCheck)
def _render_drop(_: AutogenContext, operation: _DropCheck) -> str:
    return f"batch_op.drop_constraint(batch_op.f({str(operation.constraint_name)!r}), type_='check')"


def _render(kind: str, thing: Any, _: Any) -> str | Literal[False]:
    """Our types and defaults by their own names, so that a revision reads the same on every engine."""
    if kind == "type" and isinstance(thing, ColumnType):
        return f"types.{thing!r}"
    if kind == "check" and (found := _enum_of(thing)):
        column, enum = found
        name = constraint_name("ck", thing.table.name, [column])
        return f"types.{enum!r}.check_constraint({column!r}, name=op.f({name!r}))"
    thing = getattr(thing, "arg", thing)
    if kind == "server_default" and isinstance(thing, Default):
        return f"types.{thing.column!r}.default({thing.written!r})"
    return False


def _enum_of(check: Any) -> tuple[str, Enum] | None:
    """The column that the CHECK is for, as declared or as read back."""
    if isinstance(check, EnumCheck):
        return check.column_name, check.column_type
    for column in check.table.columns:
        if check.name == constraint_name("ck", check.table.name, [column.name]) and isinstance(
            column.type, Enum
        ):
            return column.name, column.type
    return None


Plugin.setup_plugin_from_module(sys.modules[__name__], PLUGIN)
