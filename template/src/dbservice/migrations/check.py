"""The check of revisions, without a database: which of them stop the writers of a table, or break the version before.

A revision may break a rule if its file says why: `accepted = {"copies-table": "it has 200 rows"}`. Decision 30."""

import io
import tomllib
from types import ModuleType
from typing import Any

from alembic.ddl.impl import DefaultImpl
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine.default import DefaultDialect

from ..backends import BACKENDS
from ..backends.online import ChangeRules
from ..schema.revisions import (
    ACCEPTED,
    COPIES_TABLE,
    DROPS_WHAT_IS_READ,
    NOT_CHECKED,
    REQUIRED_WITHOUT_DEFAULT,
    accepted,
    oldest_code,
)
from .environment import Owner, script_directory, single_line, startup_errors

_SAME_BACKEND = {"mariadb": "mysql"}


def check_revisions(service: Owner) -> list[str]:
    """A line for each rule that a revision breaks and does not accept, on the engine of `[tool.dbservice]` in pyproject.toml,
    or on every engine if it names none. Raises StartupError."""
    with startup_errors(service):
        revisions = [each.module for each in script_directory(service).walk_revisions()]
    lines = []
    for revision in reversed(revisions):
        for rule, sentence in broken_rules(service, revision):
            file = str(revision.__file__).rpartition("/")[2]
            lines.append(
                f"{file} {sentence}. Write it in steps, see `Change a large table` in the README; or say in the file why it may:"
                f' {ACCEPTED} = {{"{rule}": "..."}}'
            )
    return lines


def broken_rules(service: Owner, revision: ModuleType) -> list[tuple[str, str]]:
    """The rules that a revision breaks and does not accept, each with a sentence."""
    path = service.migrations.parent / "pyproject.toml"
    about = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}) if path.is_file() else {}
    engine = about.get("dbservice", {}).get("database")
    engines = [BACKENDS[_SAME_BACKEND.get(str(engine), str(engine))]] if engine else list(BACKENDS.values())
    found: dict[tuple[str, str], None] = {}  # a set in order
    for rules in (each.change_rules for each in engines):
        recorder = _run(revision, rules)
        found |= dict.fromkeys([*recorder.broken, *rules.check_sql(recorder.statements)])
    known = accepted(revision)
    return [each for each in found if each[0] not in known]


def _run(revision: ModuleType, rules: ChangeRules) -> "_Recorder":
    context = MigrationContext.configure(
        dialect=DefaultDialect(), opts={"as_sql": True, "output_buffer": io.StringIO()}
    )
    recorder = _Recorder(context, rules, any_code_runs=oldest_code(revision) is None)
    context.impl = recorder
    with Operations.context(context):
        try:
            revision.upgrade()
        except Exception as error:  # anything that needs a connection
            reason = f"{type(error).__name__}: {single_line(error)}"
            recorder.broken.append((NOT_CHECKED, f"cannot be checked without a database ({reason})"))
    return recorder


class _Recorder(DefaultImpl):
    """Collects which rules the operations of a revision break, and the SQL that it executes."""

    def __init__(self, context: MigrationContext, rules: ChangeRules, *, any_code_runs: bool) -> None:
        super().__init__(context.dialect, None, True, False, io.StringIO(), {})
        self.broken: list[tuple[str, str]] = []
        self.statements: list[str] = []
        self._rules, self._any_code_runs = rules, any_code_runs
        self._made: set[str] = set()

    def create_table(self, table: Any, **_: Any) -> None:
        self._made.add(str(table.name))

    def drop_table(self, table: Any, **_: Any) -> None:
        self._lose(str(table.name), f"drops the table {table.name}")

    def rename_table(self, old_table_name: str, new_table_name: Any, schema: Any = None) -> None:
        self._lose(old_table_name, f"renames the table {old_table_name}")
        if old_table_name in self._made:
            self._made.add(str(new_table_name))

    def add_column(self, table_name: str, column: Any, **_: Any) -> None:
        if table_name in self._made:
            return
        name = f"{table_name}.{column.name}"
        if not column.nullable and column.server_default is None:
            self._break(REQUIRED_WITHOUT_DEFAULT, f"adds {name}, which is required and has no default")
        elif column.server_default is not None and self._rules.copies_on_default(column.type):
            self._break(
                COPIES_TABLE, f"adds {name} with a default, and the server copies the table meanwhile"
            )

    def drop_column(self, table_name: str, column: Any, **_: Any) -> None:
        self._lose(table_name, f"drops {table_name}.{column.name}")

    def alter_column(
        self,
        table_name: str,
        column_name: str,
        *,
        name: str | None = None,
        type_: Any = None,
        existing_type: Any = None,
        **_: Any,
    ) -> None:
        column = f"{table_name}.{column_name}"
        if name is not None:
            self._lose(table_name, f"renames {column}")
        if (
            type_ is not None
            and table_name not in self._made
            and self._rules.copies_on_type(existing_type, type_)
        ):
            before = f"from {existing_type!r} " if existing_type is not None else ""
            self._break(
                COPIES_TABLE,
                f"changes {column} {before}to {type_!r}, and the server copies the table, which stops its writers",
            )

    def add_constraint(self, const: Any, **_: Any) -> None:
        table = str(const.table.name)
        if (
            const.__visit_name__.endswith("check_constraint")
            and table not in self._made
            and self._rules.copies_on_check
        ):
            self._break(
                COPIES_TABLE,
                f"adds the CHECK {const.name} to {table}, and the server copies the table, which stops its writers",
            )

    def execute(self, sql: Any, execution_options: Any = None) -> None:
        text = sql if isinstance(sql, str) else getattr(sql, "text", "")
        if isinstance(text, str) and text:
            self.statements.append(text)

    def backfill(self, *_: Any) -> None:
        """Runs in batches."""

    def _exec(self, *_: Any, **__: Any) -> None:
        """Nothing else is a matter of this check."""

    def _lose(self, table: str, sentence: str) -> None:
        if table not in self._made and self._any_code_runs:
            self._break(
                DROPS_WHAT_IS_READ,
                f"{sentence}, and says that any older version can run on it (breaks_older_code)",
            )

    def _break(self, rule: str, sentence: str) -> None:
        self.broken.append((rule, sentence))
