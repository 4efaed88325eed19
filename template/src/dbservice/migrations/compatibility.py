"""Which code may run on the database: the version table says it beside the current revision. Decision 28.

What a revision says of itself (`breaks_older_code`) only the code that has its file can read. So the code that migrates writes
down which earlier revisions an older version may be of, and the older version finds itself there, or not."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError, to_tuple

from ..schema.revisions import BREAKS_OLDER_CODE, oldest_code
from ..types import Text

COLUMN = "compatible"
"""The column of the version table: the ids of the revisions whose code can run, the current one first, with spaces between."""


class Version(NamedTuple):
    """What the version table says."""

    revision: str | None
    """None when the database holds none of the service's tables."""
    compatible: tuple[str, ...] = ()
    """The revisions whose code can run on the database, the newest first; empty where nobody has written them down."""


def version_of(row: Sequence[Any] | None) -> Version:
    """A row of `SELECT *` from the version table. Releases of the platform before decision 28 wrote no second column, and
    leave one that belongs to an earlier revision."""
    if not row:
        return Version(None)
    found = tuple(str(row[1] or "").split()) if len(row) > 1 else ()
    return Version(str(row[0]), found if found[:1] == (str(row[0]),) else ())


def compatible(script: ScriptDirectory, revision: str) -> tuple[str, ...]:
    """The revisions whose code can run on a database at `revision`, the newest first. Raises CommandError when a revision names
    an unknown one."""
    lineage = list(script.iterate_revisions(revision, "base"))
    kept = {each.revision for each in lineage}
    for each in lineage:
        if (oldest := oldest_code(each.module)) is not None:
            if oldest not in {other.revision for other in lineage}:
                raise CommandError(
                    f"{BREAKS_OLDER_CODE} of the revision {each.revision} names an unknown revision, {oldest}"
                )
            kept &= _since(oldest, reversed(lineage))
    return tuple(each.revision for each in lineage if each.revision in kept)


def prepare(connection: sa.Connection, version_table: str) -> None:
    """Create the version table, or add the column that an earlier release of the platform did not have."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(version_table):
        impl = MigrationContext.configure(connection).impl
        table = impl.version_table_impl(
            version_table=version_table, version_table_schema=None, version_table_pk=True
        )
        table.append_column(sa.Column(COLUMN, Text()))
        table.create(connection)
    elif COLUMN not in {each["name"] for each in inspector.get_columns(version_table)}:
        name = connection.dialect.identifier_preparer.quote(version_table)
        kind = Text().compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {name} ADD COLUMN {COLUMN} {kind}")
    connection.commit()


def record(
    script: ScriptDirectory, connection: sa.Connection, version_table: str, revisions: Iterable[str]
) -> None:
    """Write down which code can run on the database, in the rows of its current `revisions`. Raises CommandError."""
    table = sa.table(version_table, sa.column("version_num"), sa.column(COLUMN))
    for revision in revisions:
        ids = " ".join(compatible(script, revision))
        connection.execute(table.update().where(table.c.version_num == revision).values({COLUMN: ids}))


def _since(oldest: str, lineage: Iterable[Script]) -> set[str]:
    """The revision `oldest` and those of a lineage, the oldest first, that come after it."""
    found = {oldest}
    for each in lineage:
        if found.intersection(to_tuple(each.down_revision, default=())):
            found.add(each.revision)
    return found
