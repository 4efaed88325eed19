"""Filling a column of a table that is in use. Revisions call it."""

from typing import Any

import sqlalchemy as sa
from alembic import op


def backfill(table: str, column: str, value: Any) -> None:
    """Put `value` where a column is NULL: `types.String(20).default("x")`, or an expression such as `sa.column("old")`.

    On a server it runs in batches, each committed, so that writers wait for a batch at most."""
    update = (
        sa.table(table, sa.column(column)).update().where(sa.column(column).is_(None)).values({column: value})
    )
    run = getattr(op.get_context().impl, "backfill", None)
    if run is None:
        op.execute(update)
    else:
        run(table, update)
