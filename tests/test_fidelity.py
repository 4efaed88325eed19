"""One truth: what is written through the API is what the API, the drivers by themselves and PyDAL read, on every
engine; what one engine cannot hold is refused on all."""

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from databases import Database
from hypothesis import HealthCheck, given
from hypothesis import settings as examples

from dbservice import DAL, Row, public_columns, query
from dbservice import types as t
from dbservice.engines import Engine
from dbservice.schema import Column, Table
from dbservice.service import Running

from .edges import EDGES, OPERATORS, REFUSED, ROWS
from .specimen import Values, users, values
from .test_types import SUBCLASSES, identical, kind

COLUMNS = [column for column in values.columns if column.name in EDGES]
ID = values.c.id


class ValuesRow(Values, Row):
    """A row of values."""


ALL = query(ValuesRow, sa.select(*public_columns(values)).order_by(ID))


# --- how a value lies in the database, written down without the code under test: it may not change under a service


def as_python(engine: Engine, column_type: t.ColumnType, raw: Any, asynchronous: bool) -> Any:
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

# --- the ways to read


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


def _select(engine: Engine) -> str:
    quote = engine.compiler().identifier_preparer.quote
    names = ", ".join(quote(column.name) for column in values.columns)
    return f"SELECT {names} FROM {quote('values')} ORDER BY {quote('id')}"


def _meaning(engine: Engine, row: Any, asynchronous: bool) -> dict[str, Any]:
    return {
        c.name: as_python(engine, kind(c), raw, asynchronous)
        for c, raw in zip(values.columns, row, strict=True)
    }


def by_the_driver(engine: Engine) -> list[dict[str, Any]]:
    with closing(engine.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(_select(engine))
        return [_meaning(engine, row, False) for row in cursor.fetchall()]


async def by_databases(engine: Engine) -> list[dict[str, Any]]:
    async with Database(engine.read_url(), **engine.read_options()) as database:
        records = await database.fetch_all(_select(engine))
        return [_meaning(engine, tuple(record._mapping.values()), True) for record in records]


def by_get(db: DAL) -> list[dict[str, Any]]:
    table = db[values]
    return [table.get(row.id) for row in db(table.id > 0).select(table.id, orderby=table.id)]


def by_pydal(db: DAL) -> list[dict[str, Any]]:
    table = db[values]
    names = {column.name: table.column(column.name).name for column in values.columns}
    rows = db(table.id > 0).select(orderby=table.id)
    return [{column: row[name] for column, name in names.items()} for row in rows]


def by_sqlalchemy(engine: Engine) -> list[dict[str, Any]]:
    """As a migration may read."""
    made = engine.sqlalchemy()
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
        by_sqlalchemy(running.engine),
    ):
        assert len(others) == len(rows)
        for row, other in zip(rows, others, strict=True):
            for name in row:
                assert identical(row[name], other[name]), name
    for others in (by_the_driver(running.engine), await by_databases(running.engine)):
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


# --- the edges


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
async def test_an_edge_is_the_same_everywhere(
    client: httpx.AsyncClient, running: Running, column: sa.Column[Any]
) -> None:
    name = column.name
    edges = [*EDGES[name], (None, None, None)]
    created = [
        await answered(await client.post("/v1/values", **body({name: sent})), 201) for sent, _, _ in edges
    ]
    for (sent, _, answer), row in zip(edges, created, strict=True):
        assert identical(row[name], answer), sent
        assert {k for k, v in row.items() if v is not None} <= {"id", name, "created_at", "updated_at"}
    assert await by_the_api(client) == created
    for (sent, python, _), row in zip(edges, await everywhere(running), strict=True):
        held = python if python is None else kind(column).check(python)
        assert held == python and identical(row[name], held), sent


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
async def test_an_edge_is_the_same_after_a_change(
    client: httpx.AsyncClient, running: Running, column: sa.Column[Any]
) -> None:
    name = column.name
    first, last = (
        next(e for e in edges if e[0] not in ("", None)) for edges in (EDGES[name], EDGES[name][::-1])
    )
    row = await answered(await client.post("/v1/values", **body({name: last[0], "enum": "a"})), 201)
    path = f"/v1/values/{row['id']}"
    before = row["updated_at"]
    for sent, python, answer in [*EDGES[name], (None, None, None), first]:
        row = await answered(await client.patch(path, **body({name: sent})), 200)
        assert identical(row[name], answer), sent
        assert (await client.get(path)).json() == row and row["updated_at"] > before
        assert name == "enum" or row["enum"] == "a"
        before = row["updated_at"]
        if python is not None and len(str(sent)) < 1000:
            (held,) = await by_reads(running)
            assert identical(held[name], kind(column).check(python)), sent
    await everywhere(running)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
async def test_what_is_refused_is_refused_everywhere(
    client: httpx.AsyncClient, running: Running, column: sa.Column[Any]
) -> None:
    name = column.name
    sent, _, answer = EDGES[name][0]
    row = await answered(await client.post("/v1/values", **body({name: sent})), 201)
    for wrong in REFUSED[name]:
        for response in (
            await client.post("/v1/values", **body({name: wrong})),
            await client.patch(
                f"/v1/values/{row['id']}",
                **body({name: wrong, "boolean" if name != "boolean" else "string": None}),
            ),
        ):
            assert response.status_code == 422, (wrong, response.text)
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert problem["detail"].endswith(".") and len(problem["detail"]) < 200
            (error,) = problem["errors"]
            assert error["field"] in (name, "body") and error["message"], wrong
    assert await by_the_api(client) == [row] and identical(row[name], answer)


@examples(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(rows=ROWS)
async def test_anything_else_is_the_same_everywhere(
    client: httpx.AsyncClient, running: Running, rows: Any
) -> None:
    await running.writes.run(lambda db: db(db[values].id > 0).delete())
    created = []
    for row in rows:
        sent = {name: pair[0] for name, pair in row.items()}
        created.append(await answered(await client.post("/v1/values", **body(sent)), 201))
    assert await by_the_api(client) == created
    for row, held in zip(rows, await everywhere(running), strict=True):
        for name in EDGES:
            python = row[name][1] if name in row else None
            assert held[name] == python
            assert python is None or identical(held[name], kind(values.c[name]).check(python))


@pytest.mark.parametrize(("name", "value", "meant"), SUBCLASSES)
async def test_a_subclass_is_stored_as_what_it_holds(
    running: Running, name: str, value: Any, meant: Any
) -> None:
    field = values.c[name].name

    def write(db: DAL) -> Any:
        table = db[values]
        row = table.add({name: value})
        table.insert(**{table.column(field).name: value})
        changed = table.add({})
        return row[name], table.change(changed["id"], {name: value})[name]

    for held in (*await running.writes.run(write), *(row[name] for row in await everywhere(running))):
        assert identical(held, meant)


async def test_a_migration_writes_the_same(client: httpx.AsyncClient, running: Running) -> None:
    """Alembic's bulk_insert goes through SQLAlchemy and the synchronous driver."""
    rows = [
        {name: python for name, edges in EDGES.items() for _, python, _ in edges[number : number + 1]}
        for number in range(max(map(len, EDGES.values())))
    ]
    now = dt.datetime.now(dt.UTC)
    engine = running.engine.sqlalchemy()
    with engine.begin() as connection:
        for row in rows:
            connection.execute(values.insert().values(**row, created_at=now, updated_at=now))
    engine.dispose()
    for row, held in zip(rows, await everywhere(running), strict=True):
        for name, python in row.items():
            assert identical(held[name], kind(values.c[name]).check(python)), name


# --- order, comparison, sums

ORDERED = [c for c in COLUMNS if not isinstance(c.type, t.JSON | t.Boolean | t.Enum)]


class Value(Row):
    """One value."""

    value: Any


def _sortable(python: Any) -> Any:
    return python.hex if isinstance(python, uuid.UUID) else python


@pytest.mark.parametrize("column", ORDERED, ids=lambda column: column.name)
async def test_order_and_comparison_are_pythons(running: Running, column: sa.Column[Any]) -> None:
    name = column.name
    held = [kind(column).check(python) for _, python, _ in EDGES[name] if len(str(python)) < 1000]
    await running.writes.run(lambda db: [db[values].add({name: value}) for value in held] and None)
    ordered = sorted(held, key=_sortable)

    def in_pydal(db: DAL, make: Any, orderby: Any = None) -> list[Any]:
        field = db[values].column(name)
        rows = db(make(field) if make else db[values].id > 0).select(field, orderby=orderby or field)
        return [row[field] for row in rows]

    class Held(Row):
        value: Any

    some = sa.select(column.label("value"))
    for statement, expected in (
        (some.order_by(column), ordered),
        (some.order_by(column.desc()), ordered[::-1]),
    ):
        rows = await running.reads.all(query(Held, statement))
        assert [repr(row.value) for row in rows] == [repr(value) for value in expected]
    assert await running.writes.run(in_pydal, None) == ordered
    for operator, compare in OPERATORS.items():
        statement = some.where(getattr(column, operator)(sa.bindparam("beside"))).order_by(column)
        compared = query(Held, statement)
        for beside in ordered[:: max(1, len(ordered) // 12)]:
            expected = [value for value in ordered if compare(_sortable(value), _sortable(beside))]
            assert [r.value for r in await running.reads.all(compared, beside=beside)] == expected, (
                operator,
                beside,
            )
            made = await running.writes.run(
                in_pydal, lambda field, o=operator, b=beside: getattr(field, o)(b)
            )
            assert made == expected, (operator, beside)


DECIMALS = [c for c in COLUMNS if isinstance(c.type, t.Numeric)]


@pytest.mark.parametrize("column", DECIMALS, ids=lambda column: column.name)
async def test_decimals_sort_and_add_up(running: Running, column: sa.Column[Any]) -> None:
    """Near one another and far apart, below zero and above, in more digits than a double or 64 bits hold."""
    kind_of = kind(column)
    assert isinstance(kind_of, t.Numeric)
    most = 10**kind_of.precision // 50
    units = [
        0,
        1,
        -1,
        2,
        -2,
        9,
        10,
        -9,
        -10,
        99,
        100,
        -100,
        most,
        most - 1,
        -most,
        1 - most,
        most // 3,
        -(most // 7),
    ]
    held = [kind_of.of_minor_units(unit) for unit in units * 2]
    await running.writes.run(lambda db: [db[values].add({column.name: value}) for value in held] and None)

    async def one(expression: Any) -> Any:
        (row,) = await running.reads.all(query(Value, sa.select(expression.label("value"))))
        return row.value

    def in_pydal(db: DAL) -> Any:
        field = db[values].column(column.name)
        total, least, greatest = field.sum(), field.min(), field.max()
        (row,) = db(db[values].id > 0).select(total, least, greatest)
        descending = [r[field] for r in db(db[values].id > 0).select(field, orderby=~field)]
        return row[total], row[least], row[greatest], descending

    expected = (kind_of.of_minor_units(2 * sum(units)), min(held), max(held), sorted(held, reverse=True))
    descending = query(Value, sa.select(column.label("value")).order_by(column.desc()))
    rows = [row.value for row in await running.reads.all(descending)]
    read = (*[await one(f(column)) for f in (sa.func.sum, sa.func.min, sa.func.max)], rows)
    assert repr(read) == repr(expected)
    assert repr(await running.writes.run(in_pydal)) == repr(expected)
    equal = query(Value, sa.select(column.label("value")).where(column == sa.bindparam("x")))
    below = query(Value, sa.select(column.label("value")).where(column < sa.bindparam("x")))
    for unit in units:
        value = kind_of.of_minor_units(unit)
        assert len(await running.reads.all(equal, x=value)) == 2
        assert len(await running.reads.all(below, x=value)) == sum(one < value for one in held)
    await running.writes.run(lambda db: db(db[values].id > 0).delete())
    assert await one(sa.func.sum(column)) is None


async def test_sums_of_other_numbers_are_right(running: Running) -> None:
    numbers = (2**31 - 1, 2, -5, 7)
    await running.writes.run(
        lambda db: [db[values].add({"integer": n, "float": n / 4}) for n in numbers] and None
    )

    def in_pydal(db: DAL, name: str) -> Any:
        total = db[values].column(name).sum()
        return db(db[values].id > 0).select(total).first()[total]

    for column, expected in ((values.c.integer, sum(numbers)), (values.c.float, sum(numbers) / 4)):
        (row,) = await running.reads.all(query(Value, sa.select(sa.func.sum(column).label("value"))))
        assert row.value == expected == await running.writes.run(in_pydal, column.name)
    await running.writes.run(lambda db: [db[values].add({"bigint": -(2**63)}) for _ in range(3)] and None)
    (row,) = await running.reads.all(query(Value, sa.select(sa.func.sum(values.c.bigint).label("value"))))
    assert row.value == -3 * 2**63 == await running.writes.run(in_pydal, "bigint")


# --- defaults

DEFAULTS: dict[str, tuple[t.ColumnType, Any]] = {
    "empty": (t.String(5), ""),
    "quotes": (t.String(40), "it's \\ \"é\" 😀 %s `x` :y ?1 \\'"),
    "lines": (t.Text(), "a\r\n\tb\u2028 -- /* x */ '; DROP TABLE items; --"),
    "least": (t.Integer(), -(2**31)),
    "lowest": (t.BigInteger(), -(2**63)),
    "highest": (t.BigInteger(), 2**63 - 1),
    "no": (t.Boolean(), False),
    "yes": (t.Boolean(), True),
    "money": (t.Numeric(12, 2), "-9999999999.99"),
    "long": (t.Numeric(65, 30), "-0." + "0" * 29 + "1"),
    "tenth": (t.Float(), 0.1),
    "sum": (t.Float(), 0.1 + 0.2),
    "tiny": (t.Float(), 5e-324),
    "odd": (t.Float(), 1.1699210331657369e-293),
    "huge": (t.Float(), -1.7976931348623157e308),
    "first_day": (t.Date(), "0001-01-01"),
    "noon": (t.Time(), "12:00:00.000001"),
    "year_one": (t.Timestamp(), "0001-01-01T00:00:00.000001Z"),
    "doomsday": (t.Timestamp(), "9999-12-31T23:59:59.999999Z"),
    "settings": (t.JSON(), {"it's": ["\\", '"', 0.1, None, True, "é😀"]}),
    "number": (t.JSON(), 0.1),
    "none": (t.Uuid(), "00000000-0000-0000-0000-000000000000"),
    "bytes": (t.Binary(), "AAEnXFz/"),
    "kind": (t.Enum("a", "long value"), "long value"),
}
"""Defaults as the API's JSON writes them."""


@pytest.fixture
def defaults(running: Running) -> Iterator[sa.Table]:
    class Defaults(Table, name="defaults", metadata=sa.MetaData()):
        number_ = Column(t.Integer())
        vars().update({name: Column(kind, default=default) for name, (kind, default) in DEFAULTS.items()})

    table = Defaults.__table__
    engine = running.engine.sqlalchemy()
    table.metadata.create_all(engine)
    yield table
    table.metadata.drop_all(engine)
    engine.dispose()


async def test_a_default_is_the_same_in_the_server(running: Running, defaults: sa.Table) -> None:
    engine = running.engine
    quote = engine.compiler().identifier_preparer.quote
    with closing(engine.connect()) as connection:
        cursor = connection.cursor()
        required = ", ".join(map(quote, ("number_", "created_at", "updated_at")))
        cursor.execute(
            f"INSERT INTO {quote('defaults')} ({required}) VALUES (1, '2024-01-31 13:45:00', '2024-01-31 13:45:00')"
        )
        for name, (kind_of, written) in DEFAULTS.items():
            cursor.execute(f"SELECT {quote(name)} FROM {quote('defaults')}")
            ((raw,),) = cursor.fetchall()
            held = as_python(engine, kind_of, raw, False)
            expected = kind_of.from_json(written)
            assert identical(held, Decimal(expected) if isinstance(expected, Decimal) else expected), name


async def test_a_row_that_the_driver_made_has_the_defaults_of_one_that_the_api_made(
    client: httpx.AsyncClient, running: Running
) -> None:
    mine = await answered(await client.post("/v1/users", json={"email": "api"}), 201)
    quote = running.engine.compiler().identifier_preparer.quote
    with closing(running.engine.connect()) as connection:
        connection.cursor().execute(
            f"INSERT INTO {quote('users')} ({', '.join(map(quote, ('email', 'created_at', 'updated_at')))}) "
            "VALUES ('driver', '2024-01-31 13:45:00.000000', '2024-01-31 13:45:00.000000')"
        )
    await running.writes.run(lambda db: db[users].insert(email="pydal") and None)
    api, driver, pydal = (await answered(await client.get("/v1/users"), 200))["items"]
    assert api == mine
    for name in api.keys() - {"id", "email", "created_at", "updated_at"}:
        assert identical(api[name], driver[name]) and identical(api[name], pydal[name]), name
