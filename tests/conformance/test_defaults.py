"""A default is the same for every way to insert a row."""

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dbservice import types as t
from dbservice.backends import backend_for
from dbservice.schema import Column, Table
from dbservice.service import Running
from dbservice.settings import Settings

from ..assertions import identical
from ..sample_service import users
from .reading import answered, as_python

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
def defaults(owner_settings: Settings) -> Iterator[sa.Table]:
    class Defaults(Table, name="defaults", metadata=sa.MetaData()):
        number_ = Column(t.Integer())
        vars().update({name: Column(kind, default=default) for name, (kind, default) in DEFAULTS.items()})

    table = Defaults.__table__
    engine = backend_for(owner_settings).migrations.engine()
    table.metadata.create_all(engine)
    yield table
    table.metadata.drop_all(engine)
    engine.dispose()


def test_a_default_is_the_same_in_the_server(owner_settings: Settings, defaults: sa.Table) -> None:
    engine = backend_for(owner_settings)
    quote = engine.dialect().identifier_preparer.quote
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


async def test_a_row_inserted_by_the_driver_has_the_same_defaults_as_one_from_the_api(
    client: httpx.AsyncClient, running: Running
) -> None:
    mine = await answered(await client.post("/v1/users", json={"email": "api"}), 201)
    quote = running.backend.dialect().identifier_preparer.quote
    with closing(running.backend.connect()) as connection:
        connection.cursor().execute(
            f"INSERT INTO {quote('users')} ({', '.join(map(quote, ('email', 'created_at', 'updated_at')))}) "
            "VALUES ('driver', '2024-01-31 13:45:00.000000', '2024-01-31 13:45:00.000000')"
        )
    await running.writes.run(lambda db: db[users].insert(email="pydal") and None)
    api, driver, pydal = (await answered(await client.get("/v1/users"), 200))["items"]
    assert api == mine
    for name in api.keys() - {"id", "email", "created_at", "updated_at"}:
        assert identical(api[name], driver[name]) and identical(api[name], pydal[name]), name
