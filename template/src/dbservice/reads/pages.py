"""Pages bounded in bytes: a page of large values has fewer rows, and the others never leave the database.

The largest possible row is known from the types of its columns. Where a page of such rows fits into the limit, as for most
queries, its statement runs as it is. Else the statement answers NULL instead of each value that is larger than its share of
the limit, and says so. Only if there is one, a second statement reads the sizes, and a third as many rows as fit: a cursor
would have to fetch several rows of unknown size at a time, and to keep a transaction."""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from .. import types as t
from ..backends.interface import Backend
from ..offload import offload
from ..schema import Page, Row
from .query import CompiledQuery, Query

R = TypeVar("R", bound=Row)
Run = Callable[[str, Sequence[Any]], Awaitable[Sequence[Sequence[Any]]]]


class PageReader:
    """Reads pages of one query on one engine."""

    @classmethod
    def of(cls, query: Query[..., Any], backend: Backend) -> "PageReader":
        """The reader of `query`, made at first use."""
        found: PageReader | None = query.page_readers.get(backend.name)
        return found or query.page_readers.setdefault(backend.name, cls(query, backend))

    def __init__(self, query: Query[..., Any], backend: Backend) -> None:
        self.query, self.plain = query, query.for_backend(backend)
        columns = list(query.statement.selected_columns)
        sizes = [_largest_size(column) for column in columns]
        self.row_bytes: float = sum(sizes)
        """The size of the largest possible row; infinite where a column has no maximum length."""
        self._small = int(sum(size for size in sizes if size <= _SMALL))
        lengths = [
            backend.codec.byte_length(column) if size > _SMALL else None
            for column, size in zip(columns, sizes, strict=True)
        ]
        self._json = [i for i, column in enumerate(columns) if isinstance(column.type, t.JSON)]
        large = [length for length in lengths if length is not None]
        if not large:
            large = [sa.literal(0, sa.Integer())]  # a page of so many small rows that even these do not fit
        self._large = len(large)

        share = sa.bindparam(_SHARE, type_=sa.Integer())
        guarded = [
            column if length is None else sa.case((length > share, sa.null()), else_=column)
            for column, length in zip(columns, lengths, strict=True)
        ]
        exceeds = sa.case((sa.or_(*(length > share for length in large)), 1), else_=0)
        self._guarded = self._compiled([*guarded, exceeds], backend, columns)
        total = sum((sa.func.coalesce(length, 0) for length in large[1:]), sa.func.coalesce(large[0], 0))
        self._sizes = self._compiled([columns[0], total], backend, [])

    async def read(self, run: Run, values: dict[str, Any], limit: int, budget: int) -> Page[Any]:
        """A page of at most `limit` rows and `budget` bytes, but of at least one row. `run` runs a statement."""
        share = max(budget // (limit + 1) - self._small, 0) // self._large
        more = {**values, "limit": limit + 1}
        given = self._guarded.arguments({**more, _SHARE: min(share, t.INT32)})
        records = await run(self._guarded.sql, given)
        if not any(record[-1] for record in records):
            return await self._decoded([record[:-1] for record in records], limit)

        sizes = await run(self._sizes.sql, self._sizes.arguments(more))
        count = total = 0
        for _, size in sizes:
            total += self._small + int(size)
            if total > budget and count:
                break
            count += 1
        count = min(count, limit)
        records = await run(self.plain.sql, self.plain.arguments({**values, "limit": count}))
        return await self._decoded(records, count, len(sizes) > count)

    def page(self, records: Sequence[Sequence[Any]], limit: int, more: bool = False) -> Page[Any]:
        """The page of these records; there are more than `limit` if it has `more`, or if the records do."""
        rows = self.plain.rows(self.query.row, records)
        if len(rows) < limit or (len(rows) == limit and not more):
            return Page(rows, None)
        del rows[limit:]
        return Page(rows, getattr(rows[-1], self.query.row.__struct_fields__[0]) if rows else None)

    async def _decoded(self, records: Sequence[Sequence[Any]], limit: int, more: bool = False) -> Page[Any]:
        """`page`, in a thread where there is much JSON, which decodes to many objects."""
        if sum(len(record[i] or "") for i in self._json for record in records) > _MUCH_JSON:
            return await offload(self.page, records, limit, more)
        return self.page(records, limit, more)

    def _compiled(
        self, selected: list[Any], backend: Backend, decoded: list[sa.ColumnElement[Any]]
    ) -> CompiledQuery:
        statement = self.query.statement.with_only_columns(*selected, maintain_column_froms=True)
        return CompiledQuery(statement, self.query.defaults, backend, decoded)


_SHARE = "_largest value"
"""A parameter; no argument in Python has this name."""
_SMALL = 256
"""Bytes up to which a column is not looked at: it counts with its largest size."""

_MUCH_JSON = 128 * 1024


def _largest_size(column: sa.ColumnElement[Any]) -> float:
    """The most bytes that a value of a selected column has."""
    while isinstance(column, sa.Label):
        column = column.element
    match column.type:
        case t.String() | t.Enum() if isinstance(column, sa.Column):
            return 4 * column.type.length
        case (
            t.String()
            | t.Text()
            | t.Enum()
            | t.JSON()
            | t.Binary()
            | sa.String()
            | sa.JSON()
            | sa.LargeBinary()
        ):
            return math.inf  # of an expression, a length is not known
    return 100  # a decimal has at most 65 digits
