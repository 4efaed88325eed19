"""What Alembic's implementations for servers share: which tables a revision makes itself, what it accepts, how large a table is.

A table that exists when a revision begins is in use. Its statements run in the form that lets others go on writing, and one
that cannot is refused for a large table, unless the revision accepts it. Decision 30."""

from types import ModuleType
from typing import Any

import sqlalchemy as sa
from alembic.ddl.impl import DefaultImpl

from ..errors import StartupError
from ..limits import Limits
from ..schema.revisions import ACCEPTED, COPIES_TABLE, accepted


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

    def begin_revision(self, revision: ModuleType) -> None:
        """The statements that follow are those of `revision`, the module of its file."""
        self._made.clear()
        self._file = str(revision.__file__ or "").rpartition("/")[2]
        self._accepted = frozenset(accepted(revision))

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
