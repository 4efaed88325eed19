"""Revisions as text: what differs between a database and `tables.py`, written so that it reads and works the same on
every engine."""

import importlib.util
import json
import re
import subprocess
import sys
import textwrap
from difflib import SequenceMatcher
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

from .errors import StartupError
from .types import BigInteger, ColumnType, Default, Enum, EnumCheck, Integer, Numeric, String, Text

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
        each.ops.sort(key=_rank)
    container.ops = [*created, *changed, *dropped]


def _rank(operation: Any) -> int:
    """What refers goes before what is referred to, and comes after it."""
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
    new = {_name(context, name, each.column_name): each for each in checks}
    names = {_name(context, name, each.name): each.name for each in existing.columns}
    assert context.inspector is not None
    for each in context.inspector.get_check_constraints(name):
        if (old_name := each["name"]) not in names or not old_name:
            continue
        old = Enum(*re.findall(r"'([^'\\]*)\\?'", each["sqltext"]))
        if old_name in new and set(new[old_name].column_type.values) == set(old.values):
            del new[old_name]
        else:
            modify.ops.append(_AddCheck(old_name, name, names[old_name], old).reverse())
    for new_name, check in new.items():
        modify.ops.append(_AddCheck(new_name, name, check.column_name, check.column_type))
    return _CONTINUE


def _name(context: AutogenContext, table: str, column: str) -> str:
    assert context.dialect is not None
    check = sa.CheckConstraint("", name=sa.schema.conv(f"ck_{table}_{column}"))
    # shortened where the engine's names are, and not quoted
    return str(context.dialect.identifier_preparer.format_constraint(check, _alembic_quote=False))


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
        name = f"ck_{thing.table.name}_{column}"
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
        if check.name == f"ck_{check.table.name}_{column.name}" and isinstance(column.type, Enum):
            return column.name, column.type
    return None


# --- what is refused, and what is said


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
            parts[1 if column in names else 0 if _rank(each) < 3 else 2].append(each)
        if names and script.upgrade_ops:
            at = script.upgrade_ops.ops.index(table)
            new = [ops.ModifyTableOps(table.table_name, part) for part in parts.values() if part]
            script.upgrade_ops.ops[at : at + 1] = new


def _rename(old: ops.DropColumnOp, new: str) -> str:
    return f"batch_op.alter_column({old.column_name!r}, new_column_name={new!r})"


Plugin.setup_plugin_from_module(sys.modules[__name__], PLUGIN)
