"""The ways to read the rows of `values`: the API, `Reads`, PyDAL, SQLAlchemy and each driver by itself. How a value lies in
the database is written down here without the code under test: it may not change under a service."""

import datetime as dt
import json
import uuid
from contextlib import closing
from decimal import Decimal
from typing import Any

import httpx
import sqlalchemy as sa
from databases import Database

from dbservice import DAL, Row, public_columns, query
from dbservice import types as t
from dbservice.backends import Backend
from dbservice.service import Running

from ..assertions import identical, kind
from ..sample_service import Values, order, values

ID = values.c.id


class ValuesRow(Values, Row):
    """A row of values."""


ALL = query(ValuesRow, sa.select(*public_columns(values)).order_by(ID))
ONE_VALUE = query(ValuesRow, sa.select(*public_columns(values)).where(values.c.id == sa.bindparam("id")))


class IdRow(Row):
    """An id and nothing else."""

    id: int


class Group(Row):
    """A row of `order`."""

    id: int
    group: str | None


ONE_GROUP = query(Group, sa.select(order.c.id, order.c.group).where(order.c.id == sa.bindparam("id")))


def as_python(engine: Backend, column_type: t.ColumnType, raw: Any, asynchronous: bool) -> Any:
    """What the value means that a driver by itself gives."""
    if raw is None:
        return None
    expected, read = _NATIVE[type(column_type)]
    if engine.name == "sqlite" and type(column_type) in _SQLITE:
        expected, read = _SQLITE[type(column_type)]
    elif engine.name == "mysql" and type(column_type) in _MYSQL:
        expected, read = _MYSQL[type(column_type)]
    elif engine.name == "postgresql":
        expected, read = (_ASYNCPG if asynchronous else _PSYCOPG2).get(type(column_type), (expected, read))
    assert isinstance(raw, expected), f"{raw!r} is not {expected}"
    return read(column_type, raw)


def _minor_units(column_type: Any, raw: int | str) -> Decimal:
    if isinstance(raw, str):
        assert len(raw) == 81 and column_type.precision > 18
        nines = 10**80 - 1
        raw = int(raw[1:]) if raw[0] == "p" else int(raw[1:]) - nines
    return Decimal((raw < 0, tuple(map(int, str(abs(raw)))), -column_type.scale))


_Reading = dict[type[t.ColumnType], tuple[Any, Any]]


_AS_IT_IS = lambda column_type, raw: raw  # noqa: E731


_NATIVE: _Reading = {
    **dict.fromkeys((t.String, t.Text, t.Enum), (str, _AS_IT_IS)),
    **dict.fromkeys((t.Integer, t.BigInteger, t.Id), (int, _AS_IT_IS)),
    t.Boolean: (bool, _AS_IT_IS),
    t.Numeric: (Decimal, _AS_IT_IS),
    t.Float: (float, _AS_IT_IS),
    t.Date: (dt.date, _AS_IT_IS),
    t.Time: (dt.time, _AS_IT_IS),
    t.Timestamp: (dt.datetime, lambda _, raw: raw.astimezone(dt.UTC)),
    t.JSON: (str, lambda _, raw: json.loads(raw)),
    t.Uuid: (uuid.UUID, lambda _, raw: uuid.UUID(int=raw.int)),
    t.Binary: (bytes, _AS_IT_IS),
}


_ASYNCPG: _Reading = {
    t.Numeric: (Decimal, lambda column_type, raw: raw if column_type.scale else Decimal(int(raw))),  # 1E+4
}


_PSYCOPG2: _Reading = {
    t.JSON: (object, _AS_IT_IS),  # the driver reads it
    t.Uuid: (str, lambda _, raw: uuid.UUID(raw)),
    t.Binary: (memoryview, lambda _, raw: raw.tobytes()),
}


_MYSQL: _Reading = {
    t.Boolean: (int, lambda _, raw: [False, True][raw]),
    t.Time: (dt.timedelta, lambda _, raw: (dt.datetime.min + raw).time()),
    t.Timestamp: (dt.datetime, lambda _, raw: raw.replace(tzinfo=dt.UTC)),
    t.Uuid: (str, lambda _, raw: uuid.UUID(hex=raw)),
}


_SQLITE: _Reading = {
    t.Boolean: (int, lambda _, raw: [False, True][raw]),
    t.Numeric: ((int, str), _minor_units),
    t.Date: (str, lambda _, raw: dt.date.fromisoformat(raw)),
    t.Time: (str, lambda _, raw: dt.datetime.strptime(raw, "%H:%M:%S.%f").time()),
    t.Timestamp: (str, lambda _, raw: dt.datetime.fromisoformat(f"{raw}+00:00")),
    t.Uuid: (str, lambda _, raw: uuid.UUID(hex=raw)),
}


async def by_the_api(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = (await client.get("/v1/values", params={"limit": 200, "after": after})).json()
        rows, after = rows + page["items"], page["next"]
    return rows


async def by_reads(running: Running) -> list[dict[str, Any]]:
    rows = await running.reads.all(ALL)
    return [
        dict(zip(ValuesRow.columns(), (getattr(r, f) for f in r.__struct_fields__), strict=True))
        for r in rows
    ]


def _select(engine: Backend) -> str:
    quote = engine.dialect().identifier_preparer.quote
    names = ", ".join(quote(column.name) for column in values.columns)
    return f"SELECT {names} FROM {quote('values')} ORDER BY {quote('id')}"


def _values_of(engine: Backend, row: Any, asynchronous: bool) -> dict[str, Any]:
    return {
        c.name: as_python(engine, kind(c), raw, asynchronous)
        for c, raw in zip(values.columns, row, strict=True)
    }


def by_the_driver(engine: Backend) -> list[dict[str, Any]]:
    with closing(engine.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(_select(engine))
        return [_values_of(engine, row, False) for row in cursor.fetchall()]


async def by_databases(engine: Backend) -> list[dict[str, Any]]:
    address = engine.read_hosts.in_order()[0]
    async with Database(engine.read_url(address), **engine.read_options()) as database:
        records = await database.fetch_all(_select(engine))
        return [_values_of(engine, tuple(record._mapping.values()), True) for record in records]


def by_get(db: DAL) -> list[dict[str, Any]]:
    table = db[values]
    return [table.get_row(row.id) for row in db(table.id > 0).select(table.id, orderby=table.id)]


def by_pydal(db: DAL) -> list[dict[str, Any]]:
    table = db[values]
    names = {column.name: table.column(column.name).name for column in values.columns}
    rows = db(table.id > 0).select(orderby=table.id)
    return [{column: row[name] for column, name in names.items()} for row in rows]


def by_sqlalchemy(engine: Backend) -> list[dict[str, Any]]:
    """As a migration may read."""
    made = engine.migrations.engine()
    with made.connect() as connection:
        rows = connection.execute(sa.select(values).order_by(ID)).all()
    made.dispose()
    return [dict(row._mapping) for row in rows]


async def everywhere(running: Running) -> list[dict[str, Any]]:
    """The rows of `values`, having asserted that everybody reads the same."""
    rows = await by_reads(running)
    for others in (
        await running.writes.run(by_get),
        await running.writes.run(by_pydal),
        by_sqlalchemy(running.backend),
    ):
        assert len(others) == len(rows)
        for row, other in zip(rows, others, strict=True):
            for name in row:
                assert identical(row[name], other[name]), name
    for others in (by_the_driver(running.backend), await by_databases(running.backend)):
        assert len(others) == len(rows)
        for row, other in zip(rows, others, strict=True):
            for name, value in row.items():
                # a driver by itself knows no PlainDecimal
                assert identical(Decimal(value) if isinstance(value, Decimal) else value, other[name]), name
    return rows


async def answered(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def body(value: Any) -> dict[str, Any]:
    """What httpx would not send as it stands."""
    return {"content": json.dumps(value).encode(), "headers": {"content-type": "application/json"}}
