"""A service on a newer schema: an unknown column that requires a value is no client error, a value that violates a
newer constraint is one."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import DAL, Service, Unavailable
from dbservice.backends import backend_for
from dbservice.schema import CheckConstraint, Column, Table
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Database
from dbservice.types import Integer, String

from ..assertions import SECRET, problem
from ..sample_service import NOWHERE, client_of, routes


class OldTable(Table, metadata=sa.MetaData()):
    """What the service knows."""


class OldGadgets(OldTable, name="gadgets"):
    label = Column(String(20))


class OldParts(OldTable, name="parts"):
    colour = Column(String(20), nullable=True)
    size = Column(Integer(), nullable=True)


class NewTable(Table, metadata=sa.MetaData()):
    """What the database has."""


class NewGadgets(NewTable, name="gadgets"):
    label = Column(String(20))
    colour = Column(String(20))


class NewParts(NewTable, name="parts"):
    colour = Column(String(20))
    size = Column(Integer(), nullable=True)

    __table_args__ = (CheckConstraint("size > 0", name="size"),)


@pytest.fixture
async def running_old(private_database: Database) -> AsyncIterator[Running]:
    """The old service on the newer database."""
    settings = Settings.load({**private_database.environ(), "DB_MAX_RETRIES": "0"})
    engine = backend_for(settings).migrations.engine()
    NewTable.__metadata__.create_all(engine)
    engine.dispose()
    tables = OldTable.__metadata__
    service = Service(
        "old",
        tables=tables,
        routers=[routes(table) for table in tables.sorted_tables],
        description="The version before.",
        root=NOWHERE,
    )
    async with service.running(settings) as running:
        yield running


async def test_a_required_column_that_the_service_does_not_know_is_503(
    running_old: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(running_old) as client:
        with caplog.at_level(logging.ERROR):
            answer = await client.post("/v1/gadgets", json={"label": SECRET})
        body = problem(answer, 503)
        assert body["title"] == "Unavailable" and "nothing was stored" in body["detail"]
        assert "errors" not in body and "colour" not in answer.text
        (record,) = caplog.records
        assert record.levelno == logging.ERROR and "gadgets.colour" in record.getMessage()
        assert SECRET not in caplog.text
        assert (await client.get("/v1/gadgets")).json()["items"] == []


async def test_it_is_unavailable_however_a_row_is_inserted(running_old: Running) -> None:
    inserts: list[Callable[[DAL], Any]] = [
        lambda db: db[OldGadgets].insert_row({"label": "a"}),
        lambda db: db[OldGadgets].insert(label="a"),
        lambda db: db[OldGadgets].bulk_insert([{"label": "a"}]),
        lambda db: db[OldGadgets].update_or_insert(db[OldGadgets].label == "a", label="a"),
    ]
    for insert in inserts:
        with pytest.raises(Unavailable, match="nothing was stored"):
            await running_old.writes.run(insert)


async def test_a_column_that_the_service_knows_is_a_client_error(
    running_old: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """The database has made it required; the client may send it."""
    async with client_of(running_old) as client:
        answer = await client.post("/v1/parts", json={"size": 1})
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"field": "colour", "message": "does not accept this value"}]
        assert (await client.post("/v1/parts", json={"size": 1, "colour": "red"})).status_code == 201
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_value_that_a_newer_check_refuses_is_a_client_error(running_old: Running) -> None:
    async with client_of(running_old) as client:
        answer = await client.post("/v1/parts", json={"size": 0, "colour": "red"})
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {"field": "ck_parts_size", "message": "does not accept this value"}
        ]
