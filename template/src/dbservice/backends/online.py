"""What Alembic's implementations for servers share: which tables a revision makes itself, what it accepts, how large a table is.

A table that exists when a revision begins is in use. Its statements run in the form that lets others go on writing, and one
that cannot is refused for a large table, unless the revision accepts it. Decision 30."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

import sqlalchemy as sa
from alembic.ddl.impl import DefaultImpl

from ..errors import StartupError
from ..limits import Limits
from ..schema.revisions import ACCEPTED, COPIES_TABLE, accepted

_BATCH = 5000
"""Rows that `backfill` changes before it commits."""


class OnlineImpl(DefaultImpl):
    """Mixin: changes of tables that are in use."""

    copying_stops = "nobody can write to it"
    """What others cannot do while the server copies a table."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.version_table = str(self.context_opts.get("version_table", "alembic_version"))
        # not the version table's name with a suffix, which may be the version table of another service
        self.journal_table = self.version_table.replace("alembic_version", "alembic_journal", 1)
        self.journal = self.dialect.identifier_preparer.quote(self.journal_table)
        self._made: set[str] = set()
        self._file, self._accepted = "", frozenset[str]()

    def begin_revision(self, revision: ModuleType, *, upgrade: bool) -> None:
        """The statements that follow are those of `revision`, the module of its file. A way back is never refused."""
        self._made.clear()
        self._file = str(revision.__file__ or "").rpartition("/")[2]
        self._accepted = frozenset(accepted(revision) if upgrade else {COPIES_TABLE})

    def is_in_use(self, table: Any) -> bool:
        """Whether others may use a table, by name or as an object: the revision has not made it."""
        return str(getattr(table, "name", table)) not in self._made

    def create_table(self, table: sa.Table, **options: Any) -> None:
        self._made.add(table.name)
        super().create_table(table, **options)

    def rename_table(self, old_table_name: str, new_table_name: Any, schema: Any = None) -> None:
        if old_table_name in self._made:
            self._made.add(str(new_table_name))
        super().rename_table(old_table_name, new_table_name, schema=schema)

    def check_copy(self, table: str, statement: str) -> None:
        """Raise StartupError if `statement` lets the server copy a large table, which the revision does not accept."""
        if self.connection is None or COPIES_TABLE in self._accepted:
            return
        size = self.table_size(table)
        if size >= self.limits.large_table:
            raise StartupError(
                f"`{' '.join(statement.split())}` lets the server copy {table} ({megabytes(size)}), and {self.copying_stops}"
                f" meanwhile: see `Change a large table` in the README, or accept it in {self._file} with"
                f' {ACCEPTED} = {{"{COPIES_TABLE}": "why"}}.'
            )

    def backfill(self, table: str, update: sa.Update) -> None:
        """Run `update` in batches of rows, each committed: a writer waits for a batch, not for the whole table. It is not
        recorded as done, and must be able to run again."""
        connection = self.connection
        key = sa.inspect(connection).get_pk_constraint(table)["constrained_columns"] if connection else []
        if connection is None or not self.is_in_use(table) or len(key) != 1:
            self.execute(update)
            return
        with self.outside_transaction():
            column: sa.ColumnClause[Any] = sa.column(key[0])
            last, after = None, sa.true()
            cast(sa.TableClause, update.table).schema = self.schema_of_steps
            while True:
                rows = sa.select(column).select_from(update.table).where(after).order_by(column)
                last = connection.scalar(rows.offset(_BATCH - 1).limit(1))
                connection.execute(update.where(after, sa.true() if last is None else column <= last))
                self.commit_batch()
                if last is None:
                    return
                after = column > last

    @property
    def schema_of_steps(self) -> str | None:
        """The schema to name where a statement might run in a session that has another one."""
        return None

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        """Commit what the revision has done so far, and run the block in autocommit. Its statements must be able to run
        again."""
        yield

    def commit_batch(self) -> None:
        """Commit, on an engine where `outside_transaction` is no autocommit."""

    @property
    def limits(self) -> Limits:
        assert self.connection is not None
        limits: Limits = self.connection.info.get("limits") or Limits()
        return limits

    def table_size(self, table: str) -> int:
        """Bytes of a table with its indexes; 0 if it does not exist."""
        raise NotImplementedError


def megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MB"


class ChangeRules:
    """Which changes of a table in use stop its writers on one engine, for `make check`, which asks no server."""

    copies_on_check = False
    """Whether a new CHECK lets the server copy the table."""

    def copies_on_type(self, old: Any, new: Any) -> bool:
        """Whether the server copies the table when the type of a column changes. `old` is None if it is not known."""
        return False

    def copies_on_default(self, column: Any) -> bool:
        """Whether the server copies the table when a column with a default is added, of this type."""
        return False

    def check_sql(self, statements: Sequence[str]) -> list[tuple[str, str]]:
        """What is wrong with SQL written by hand: pairs of a rule and a sentence. Raises StartupError without a linter."""
        return []
