"""Tables with keys of their own: natural, UUID and composite keys, association tables, no managed times; on every engine."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import DAL, BadValue, Conflict, Row, Service, public_columns, query
from dbservice.schema import BareTable, Column, ForeignKey, Table, Timestamps
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing import servers
from dbservice.types import BigInteger, Integer, String, Uuid

from ..sample_service import NOWHERE

metadata = sa.MetaData()


class Countries(BareTable, name="countries", metadata=metadata):
    code = Column(String(2), primary_key=True)
    title = Column(String(40), nullable=True)


class Tokens(Timestamps, BareTable, name="tokens", metadata=metadata):
    id = Column(Uuid(), primary_key=True, default_factory=uuid.uuid4)
    country = Column(String(2), ForeignKey("countries.code"), nullable=True)


class People(Table, name="people", metadata=metadata):
    email = Column(String(40))


class Memberships(BareTable, name="memberships", metadata=metadata):
    person_id = Column(BigInteger(), ForeignKey("people.id"), primary_key=True)
    country = Column(String(2), ForeignKey("countries.code"), primary_key=True)
    rank = Column(Integer(), default=1)


class Notes(Table, name="notes", metadata=metadata):
    created_by = Column(String(9), nullable=True)


class TokenRow(Tokens, Row): ...


@pytest.fixture(scope="module")
def own_keys(database: servers.Database) -> Iterator[tuple[Service, Settings]]:
    service = Service("keys", tables=metadata, root=NOWHERE)
    settings = Settings.load({**database.environ(), "DB_POOL_SIZE": "2", "DB_MAX_RETRIES": "0"})
    engine = service.backend(settings).migrations.engine()
    metadata.create_all(engine)
    yield service, settings
    metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
async def keyed(own_keys: tuple[Service, Settings]) -> Any:
    service, settings = own_keys
    async with service.running(settings) as running:

        def clear(db: DAL) -> None:
            for table in (Memberships, Tokens, People, Countries):
                db(db[table].column(next(iter(table.__table__.columns)).name) != None).delete()  # noqa: E711

        await running.writes.run(clear)
        yield running


async def test_a_natural_key_is_given_found_and_unique(keyed: Running) -> None:
    def unit(db: DAL) -> Any:
        table = db[Countries]
        added = table.insert_row({"code": "no", "title": "Norway"})
        assert table.get_row("no") == added == {"code": "no", "title": "Norway"}
        assert table.get_row("No") is None
        assert table.update_row("no", {"title": None}) == {"code": "no", "title": None}
        assert table.update_row("no", {}) == {"code": "no", "title": None}
        assert table.update_row("se", {}) is None and table.update_row("se", {"title": "x"}) is None
        with pytest.raises(Conflict), db.savepoint():
            table.insert_row({"code": "no"})
        for wrong in ("nor", 1, None):
            with pytest.raises(BadValue):
                table.get_row(wrong)
        with pytest.raises(BadValue, match="code must not be null"):
            table.insert_row({"title": "x"})
        with pytest.raises(TypeError, match="a primary key never changes: leave code out"):
            table.update_row("no", {"code": "se"})
        assert table.delete_row("no") and not table.delete_row("no")
        return table.insert(code="fi", title="Finland")

    await keyed.writes.run(unit)
    assert (await keyed.writes.run(lambda db: db[Countries].get_row("fi")))["title"] == "Finland"


async def test_a_uuid_key_is_made_or_given_and_the_times_are_managed(keyed: Running) -> None:
    def unit(db: DAL) -> Any:
        table = db[Tokens]
        made, given = table.insert_row({}), table.insert_row({"id": uuid.UUID(int=5)})
        assert isinstance(made["id"], uuid.UUID) and given["id"] == uuid.UUID(int=5)
        assert table.get_row(made["id"]) == made and table.get_row(uuid.UUID(int=5)) == given
        changed = table.update_row(uuid.UUID(int=5), {})
        assert changed["updated_at"] > given["updated_at"] and changed["created_at"] == given["created_at"]
        return given["id"]

    key = await keyed.writes.run(unit)
    statement = sa.select(*public_columns(Tokens)).where(Tokens.id == sa.bindparam("id"))
    row = await keyed.reads.one(query(TokenRow, statement), id=key)
    assert row.id == key and row.country is None


async def test_a_key_of_several_columns(keyed: Running) -> None:
    def unit(db: DAL) -> Any:
        person = db[People].insert_row({"email": "a"})["id"]
        db[Countries].insert_row({"code": "no"})
        table, key = db[Memberships], {"person_id": person, "country": "no"}
        assert table.insert_row(key) == {**key, "rank": 1} == table.get_row(key)
        assert table.update_row(key, {"rank": 7}) == {**key, "rank": 7}
        with pytest.raises(Conflict), db.savepoint():
            table.insert_row(key)
        with pytest.raises(Conflict), db.savepoint():
            table.insert_row({"person_id": person, "country": "xx"})
        for wrong in (person, {"person_id": person}, {**key, "rank": 1}):
            with pytest.raises(TypeError, match="give its key as a mapping with person_id, country"):
                table.get_row(wrong)
        assert table.delete_row(key) and table.get_row(key) is None
        table.insert(**key)
        assert db(table.rank == 1).count() == 1 and len(db(table.rank == 1).select()) == 1

    await keyed.writes.run(unit)
