"""Operations as the text of a revision, which reads and works the same on every engine."""

import importlib.util
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Literal

from alembic.autogenerate import render_python_code, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops

from ..backends.sql import escape_colons
from ..schema.revisions import BREAKS_OLDER_CODE, BREAKS_OLDER_CODE_COMMENT
from ..types import ColumnType, Default, EnumCheck
from .comparison import enum_check, final_name
from .operations import AlterPrimaryKeyOp, BackfillOp, CreateCheckOp, DropCheckOp


def render_operations(container: Any) -> str:
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


def write_revision(
    path: Path,
    message: str,
    before: str | None,
    script: ops.MigrationScript,
    notes: list[str],
    *,
    breaks_older_code: bool,
) -> None:
    """Write the file of a revision, whose id is the file's name, with `notes` in its docstring. `breaks_older_code`: what it
    says of itself (schema/revisions.py)."""
    up, down = (render_operations(each) for each in (script.upgrade_ops, script.downgrade_ops))
    own = "\nfrom dbservice import types\n" if re.search(r"\btypes\.", up + down) else ""
    if re.search(r"\bbackfill\(", up + down):  # which fills with a type's default
        own += "from dbservice.migrations import backfill\n"
    alchemy = "import sqlalchemy as sa\n" if re.search(r"\bsa\.", up + down) else ""
    about = _in_docstring(" ".join(message.split()))
    noted = "".join(f"\n{_in_docstring(textwrap.fill(f'It {note}.', 100))}\n" for note in notes)
    text = _FILE.format(
        about=about, revision=path.stem, before=before, revises=f" {before}" if before else "", own=own,
        alchemy=alchemy, up=up, down=down, notes=noted,
        marker=f"{BREAKS_OLDER_CODE_COMMENT}\n{BREAKS_OLDER_CODE} = {breaks_older_code}",
    )  # fmt: skip
    path.write_text(text, encoding="utf-8")
    if importlib.util.find_spec("ruff"):  # installed for development: `make check` passes at once
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
{marker}


def upgrade() -> None:
    {up}


def downgrade() -> None:
    {down}
'''


@renderers.dispatch_for(BackfillOp)
def _render_backfill(_: AutogenContext, fill: BackfillOp) -> str:
    column, default = fill.column, fill.default
    return f"backfill({fill.table!r}, {column!r}, types.{default.column!r}.default({default.written!r}))"


@renderers.dispatch_for(CreateCheckOp)
def _render_create_check(context: AutogenContext, operation: CreateCheckOp) -> str:
    name, check = f"batch_op.f({str(operation.constraint_name)!r})", operation.check
    if isinstance(check, EnumCheck):
        condition = f"types.{check.column_type!r}.check_constraint({check.column_name!r}).sqltext"
    else:
        condition = repr(_condition(context, check))
    return f"batch_op.create_check_constraint({name}, {condition})"


@renderers.dispatch_for(DropCheckOp)
def _render_drop_check(_: AutogenContext, operation: DropCheckOp) -> str:
    return f"batch_op.drop_constraint(batch_op.f({str(operation.constraint_name)!r}), type_='check')"


@renderers.dispatch_for(AlterPrimaryKeyOp)
def _render_primary_key(_: AutogenContext, operation: AlterPrimaryKeyOp) -> str:
    old, new = ", ".join(operation.old), ", ".join(operation.new)
    return f"# the primary key of {operation.table_name} is ({old}), tables.py has ({new})"


def _render(kind: str, thing: Any, context: AutogenContext) -> str | Literal[False]:
    """Our types, defaults and CHECKs by their own names, so that a revision reads the same on every engine."""
    if kind == "type" and isinstance(thing, ColumnType):
        return f"types.{thing!r}"
    if kind == "check":
        name = f"name=op.f({final_name(context, thing)!r})"
        if enum := enum_check(context, thing, thing.table):
            return f"types.{enum.column_type!r}.check_constraint({enum.column_name!r}, {name})"
        return f"sa.CheckConstraint({_condition(context, thing)!r}, {name})"
    thing = getattr(thing, "arg", thing)
    if kind == "server_default" and isinstance(thing, Default):
        return f"types.{thing.column!r}.default({thing.written!r})"
    return False


def _condition(context: AutogenContext, check: Any) -> str:
    return escape_colons(context.migration_context.impl.render_ddl_sql_expr(check.sqltext))
