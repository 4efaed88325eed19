"""CREATE INDEX CONCURRENTLY that can be run again: a lock timeout leaves an invalid index of the same name behind."""

import re
from typing import Any

import sqlalchemy as sa
from alembic.ddl.postgresql import PostgresqlImpl

_NAME = r'(?:"((?:[^"]|"")+)"|(\w+))'
_CREATE = re.compile(
    r"\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    rf"{_NAME}\s+ON\s+(?:ONLY\s+)?(?:{_NAME}\.)?{_NAME}",
    re.IGNORECASE,
)

_FIND = sa.text(
    "SELECT i.indisvalid, i.indisunique, array(SELECT a.attname::text"
    " FROM unnest(i.indkey) WITH ORDINALITY AS k(n, o)"
    " JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY k.o) AS columns"
    " FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid"
    " WHERE c.relname = :index AND t.relname = :table AND c.relnamespace = coalesce(to_regnamespace(:schema), current_schema()::regnamespace)"
)


class ConcurrentIndexImpl(PostgresqlImpl):
    """Alembic's PostgreSQL. CREATE INDEX CONCURRENTLY replaces the invalid index of an attempt that failed, and
    `op.create_index(..., postgresql_concurrently=True)` skips one that an attempt completed before its revision was recorded."""

    known_schema = ""
    """The schema of the service, once it was asked for: outside of a transaction, a pooler's session may have another one."""

    def create_index(self, index: sa.Index, **options: Any) -> None:
        concurrently = index.dialect_options["postgresql"]["concurrently"]
        if not concurrently or self.as_sql or not self._is_complete(index):
            super().create_index(index, **options)

    def _exec(self, construct: Any, *arguments: Any, **options: Any) -> Any:
        if not self.as_sql and (created := self._created_concurrently(construct)):
            self._drop_invalid(*created)
        return super()._exec(construct, *arguments, **options)

    def correct_for_autogen_constraints(
        self,
        conn_unique_constraints: Any,
        conn_indexes: Any,
        metadata_unique_constraints: Any,
        metadata_indexes: Any,
    ) -> None:
        super().correct_for_autogen_constraints(  # type: ignore[no-untyped-call]
            conn_unique_constraints, conn_indexes, metadata_unique_constraints, metadata_indexes
        )
        for index in list(conn_indexes):
            found = self._find(index.name, index.table.name)
            if found is not None and not found.indisvalid:
                conn_indexes.remove(index)  # the server does not use it: it has to be created again

    def _created_concurrently(self, construct: Any) -> tuple[str, str] | None:
        """The index that a statement creates concurrently and its table; None for any other statement."""
        if isinstance(construct, str):
            text = construct
        elif isinstance(construct, sa.TextClause | sa.schema.CreateIndex):
            text = str(construct.compile(dialect=self.dialect))
        else:
            return None
        if not (found := _CREATE.match(text)):
            return None
        index, _, table = (
            quoted.replace('""', '"') if quoted else plain and plain.lower()
            for quoted, plain in (found.group(1, 2), found.group(3, 4), found.group(5, 6))
        )
        return index, table

    def _is_complete(self, index: sa.Index) -> bool:
        """Whether the index exists, valid and as declared."""
        assert index.table is not None
        found = self._find(str(index.name), index.table.name)
        if found is None or not found.indisvalid:
            return False
        declared = [getattr(each, "name", None) for each in index.expressions]
        return [*found.columns] == declared and bool(found.indisunique) == bool(index.unique)

    def _drop_invalid(self, index: str, table: str) -> None:
        found = self._find(index, table)
        if found is not None and not found.indisvalid:
            quote = self.dialect.identifier_preparer.quote
            schema = f"{quote(self.known_schema)}." if self.known_schema else ""
            self._exec(sa.text(f"DROP INDEX CONCURRENTLY IF EXISTS {schema}{quote(index)}"))

    def _find(self, index: str, table: str) -> Any:
        assert self.connection is not None
        schema = self.dialect.identifier_preparer.quote(self.known_schema) if self.known_schema else None
        return self.connection.execute(
            _FIND, {"index": index, "table": table, "schema": schema}
        ).one_or_none()
