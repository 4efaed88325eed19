"""CREATE INDEX CONCURRENTLY that can be run again: a lock timeout leaves an invalid index of the same name behind."""

from typing import Any

import sqlalchemy as sa
from alembic.ddl.postgresql import PostgresqlImpl


class ConcurrentIndexImpl(PostgresqlImpl):
    """Alembic's PostgreSQL. `op.create_index(..., postgresql_concurrently=True)` drops the invalid index of an attempt that
    failed, and skips one that an attempt completed before its revision was recorded."""

    __dialect__ = "postgresql"

    def create_index(self, index: sa.Index, **options: Any) -> None:
        concurrently = index.dialect_options["postgresql"]["concurrently"]
        if concurrently and not self.as_sql and self._exists(index):
            return
        super().create_index(index, **options)

    def _exists(self, index: sa.Index) -> bool:
        """Whether the index is there, valid and as declared. Drops an invalid one."""
        assert self.connection is not None and index.table is not None
        table = index.table
        found = self.connection.execute(_FIND, {"index": index.name, "table": table.name}).one_or_none()
        if found is None:
            return False
        if not found.indisvalid:
            quoted = self.dialect.identifier_preparer.quote(str(index.name))
            self._exec(sa.text(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted}"))
            return False
        declared = [getattr(each, "name", None) for each in index.expressions]
        names = [*found.columns]
        return bool(names == declared and found.indisunique == bool(index.unique))


_FIND = sa.text(
    "SELECT i.indisvalid, i.indisunique, array(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k(n, o)"
    " JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY k.o) AS columns"
    " FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid"
    " WHERE c.relname = :index AND t.relname = :table AND c.relnamespace = current_schema()::regnamespace"
)
