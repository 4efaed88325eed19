"""Tables that another service owns: read and written as far as `access.py` says, and no row or column beyond it."""

import datetime as dt
import logging
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import (
    DAL,
    Create,
    NotFound,
    Patch,
    Reads,
    Row,
    Service,
    public_columns,
    query,
)
from dbservice import types as t
from dbservice.accounts.commands import apply
from dbservice.backends.interface import Backend
from dbservice.errors import BadValue, Unavailable
from dbservice.http import Router
from dbservice.migrations import create_shared_tables
from dbservice.schema import Column, SharedTable, Table
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing import plugin, servers

from ..sample_service import NOWHERE

pytestmark = pytest.mark.anyio

# --- what other services own

others = sa.MetaData()


class Integrations(Table, name="platform_integrations", metadata=others):
    platform = Column(t.String(20))
    token = Column(t.String(40), nullable=True, secret=True)
    note = Column(t.String(40), nullable=True)
    hidden = Column(t.String(40), default="theirs")


class Events(Table, name="events", metadata=others):
    kind = Column(t.String(40))
    hidden = Column(t.String(40), default="theirs")


class Demanding(Table, name="demanding", metadata=others):
    kind = Column(t.String(40))
    hidden = Column(t.String(40))


# --- what this one uses of them

ours = sa.MetaData()


class Twitch(
    SharedTable, name="platform_integrations", access="read-write", rows={"platform": "twitch"}, metadata=ours
):
    id = Column(t.BigInteger(), primary_key=True, managed=True)
    platform = Column(t.String(20))
    token = Column(t.String(40), nullable=True, secret=True)
    note = Column(t.String(40), nullable=True)
    created_at = Column(t.Timestamp(), managed=True)
    updated_at = Column(t.Timestamp(), managed=True)


class SharedEvents(SharedTable, name="events", metadata=ours):
    id = Column(t.BigInteger(), primary_key=True)
    kind = Column(t.String(40))


class SharedDemanding(SharedTable, name="demanding", access="read-write", metadata=ours):
    id = Column(t.BigInteger(), primary_key=True, managed=True)
    kind = Column(t.String(40))
    created_at = Column(t.Timestamp(), managed=True)
    updated_at = Column(t.Timestamp(), managed=True)


class TwitchRow(Twitch, Row): ...


class TwitchCreate(Twitch, Create): ...


class TwitchPatch(Twitch, Patch): ...


class EventRow(SharedEvents, Row): ...


class DemandingRow(SharedDemanding, Row): ...


class Pair(Row):
    kind: str
    note: str | None


class Count(Row):
    rows: int


EVENTS = query(EventRow, sa.select(*public_columns(SharedEvents)).order_by(SharedEvents.id))
TWITCH = query(TwitchRow, sa.select(*public_columns(Twitch)).order_by(Twitch.id))
_other = sa.alias(Twitch.__table__, "other")
ALIASED = query(
    TwitchRow, sa.select(*(_other.c[each.name] for each in public_columns(Twitch))).order_by(_other.c.id)
)
# an outer join keeps the left rows whatever the other table has
JOINED = query(
    Pair,
    sa.select(SharedEvents.kind, Twitch.note)
    .select_from(sa.outerjoin(SharedEvents.__table__, Twitch.__table__, Twitch.note == SharedEvents.kind))
    .order_by(SharedEvents.id),
)
COUNTED = query(Count, sa.select(sa.func.count().label("rows")).select_from(Twitch))
NESTED = query(
    EventRow, sa.select(*public_columns(SharedEvents)).where(SharedEvents.kind.in_(sa.select(Twitch.note)))
)


def module(**names: Any) -> ModuleType:
    made = ModuleType("access")
    vars(made).update(names)
    return made


def the_service(*shared: type[SharedTable], tables: sa.MetaData | None = None) -> Service:
    access = module(**{each.__name__: each for each in shared})
    return Service("twitch-trigger", tables or sa.MetaData(), access=access, root=NOWHERE)


class Others:
    """The other services, straight at the database."""

    def __init__(self, backend: Backend) -> None:
        self.engine, self.settings = backend.migrations.engine(), backend.settings

    def add(self, table: type[Table], **values: Any) -> int:
        now = dt.datetime.now(dt.UTC)
        with self.engine.begin() as connection:
            done = connection.execute(
                table.__table__.insert().values(created_at=now, updated_at=now, **values)
            )
            return int(done.inserted_primary_key[0])  # type: ignore[index]

    def rows(self, table: type[Table], *columns: str) -> list[tuple[Any, ...]]:
        with self.engine.begin() as connection:
            chosen = [table.__table__.c[each] for each in columns]
            return [
                tuple(each) for each in connection.execute(sa.select(*chosen).order_by(table.__table__.c.id))
            ]


SHARED = (Twitch, SharedEvents, SharedDemanding)
PLACES = ["sqlite", *servers.ENGINES, *(f"{engine}, its own account" for engine in servers.ENGINES)]


@pytest.fixture(scope="module", params=PLACES)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Others]]:
    """The service's settings, and the other services. The service has one account with them, or its declared one."""
    engine, _, own_account = request.param.partition(", ")
    if engine not in plugin.engines(request.config):
        pytest.skip(f"--engines excludes {engine}")
    with plugin.fresh_database(engine, tmp_path_factory.mktemp("shared"), request.config) as database:
        service = the_service(*SHARED)
        environ = {**database.environ(), "DB_POOL_SIZE": "2", "DB_MAX_RETRIES": "0"}
        settings = Settings.load(environ)
        backend = service.backend(settings)
        theirs = Others(backend)
        others.create_all(theirs.engine)
        if not own_account:
            create_shared_tables(service, backend)  # the tables exist: only the view
        else:
            server = plugin.find_server(engine, request.config)
            del environ["DB_SINGLE_ACCOUNT"]
            environ |= {"DB_USER": "twitch-trigger-rw", "DB_PASS": "secret"}
            environ |= {"ADMIN_DB_USER": server.user, "ADMIN_DB_PASS": server.password}
            settings = Settings.load(environ)
            apply(service, service.backend(settings), service.backend)
        yield settings, theirs
        theirs.engine.dispose()


@pytest.fixture
def theirs(place: tuple[Settings, Others]) -> Others:
    """The other services, whose tables are empty."""
    with place[1].engine.begin() as connection:
        for table in others.sorted_tables:
            connection.execute(table.delete())
    return place[1]


@pytest.fixture
async def running(place: tuple[Settings, Others], theirs: Others) -> AsyncIterator[Running]:
    async with the_service(*SHARED).running(place[0]) as running:
        yield running


async def test_queries_see_the_declared_columns_and_rows(running: Running, theirs: Others) -> None:
    first = theirs.add(Events, kind="a")
    theirs.add(Events, kind="b")
    theirs.add(Integrations, platform="discord", note="a")
    mine = theirs.add(Integrations, platform="twitch", note="b")
    reads = running.reads
    events = await reads.all(EVENTS)
    assert [(each.id, each.kind) for each in events] == [(first, "a"), (first + 1, "b")]
    for each in (TWITCH, ALIASED):
        assert [(row.id, row.platform, row.note) for row in await reads.all(each)] == [(mine, "twitch", "b")]
    assert [(row.kind, row.note) for row in await reads.all(JOINED)] == [("a", None), ("b", "b")]
    assert (await reads.one(COUNTED)).rows == 1
    assert [row.kind for row in await reads.all(NESTED)] == ["b"]


async def test_pydal_sees_the_declared_rows(running: Running, theirs: Others) -> None:
    theirs.add(Events, kind="a")
    theirs.add(Integrations, platform="discord", note="a")
    theirs.add(Integrations, platform="twitch", note="b")

    def seen(db: DAL) -> list[Any]:
        twitch, events = db[Twitch], db[SharedEvents]
        other = twitch.with_alias("other")
        joined = db(events.id > 0).select(
            events.kind, twitch.note, left=twitch.on(twitch.note == events.kind)
        )
        return [
            db(twitch.id > 0).count(),
            [each.note for each in db().select(twitch.note)],
            [each.note for each in db(twitch, ignore_common_filters=True).select(for_update=True)],
            [each.note for each in db(other.id > 0).select(other.note)],
            [(each[events].kind, each[twitch].note) for each in joined],
            db(events.kind.belongs(db(twitch.id > 0).nested_select(twitch.note))).count(),
        ]

    assert await running.writes.run(seen) == [1, ["b"], ["b"], ["b"], [("a", None)], 0]


def insert(db: DAL, new: TwitchCreate) -> TwitchRow:
    return TwitchRow.from_mapping(db[Twitch].insert_row(new.changes()))


def update(db: DAL, row_id: int, patch: TwitchPatch) -> TwitchRow:
    row = db[Twitch].update_row(row_id, patch.changes())
    if row is None:
        raise NotFound("There is no such row.")
    return TwitchRow.from_mapping(row)


async def test_a_written_row_is_one_of_the_service_s(running: Running, theirs: Others) -> None:
    before = dt.datetime.now(dt.UTC)
    row = await running.writes.run(insert, TwitchCreate(token="t", note="n"))
    assert (row.platform, row.note) == ("twitch", "n") and row.created_at == row.updated_at >= before
    assert theirs.rows(Integrations, "id", "platform", "token", "hidden") == [
        (row.id, "twitch", "t", "theirs")
    ]

    changed = await running.writes.run(update, row.id, TwitchPatch(note="m", platform="twitch"))
    assert (changed.id, changed.note, changed.created_at) == (row.id, "m", row.created_at)
    assert changed.updated_at > row.updated_at
    assert await running.reads.one(TWITCH) == changed

    assert await running.writes.run(lambda db: db[Twitch].delete_row(row.id))
    assert not theirs.rows(Integrations, "id")


@pytest.mark.parametrize("platform", ["discord", "Twitch", "twitch ", None])
async def test_no_row_leaves_its_scope(running: Running, theirs: Others, platform: Any) -> None:
    mine = theirs.add(Integrations, platform="twitch")
    attempts = [
        lambda db: db[Twitch].insert_row({"platform": platform}),
        lambda db: db[Twitch].insert(platform=platform),
        lambda db: db[Twitch].bulk_insert([{"platform": platform}]),
        lambda db: db[Twitch].update_row(mine, {"platform": platform}),
        lambda db: db(db[Twitch].id == mine).update(platform=platform),
        lambda db: db[Twitch][mine].update_record(platform=platform),
    ]
    for attempt in attempts:
        with pytest.raises(BadValue, match=r'platform must (be "twitch"|not be null)'):
            await running.writes.run(attempt)
    with pytest.raises(TypeError, match="platform: its value selects the rows"):
        await running.writes.run(lambda db: db(db[Twitch].id == mine).update(platform=db[Twitch].note))
    assert theirs.rows(Integrations, "platform") == [("twitch",)]


async def test_rows_of_others_are_out_of_reach(running: Running, theirs: Others) -> None:
    other = theirs.add(Integrations, platform="discord", note="theirs")

    def attempts(db: DAL) -> list[Any]:
        twitch = db[Twitch]
        return [
            twitch.get_row(other),
            twitch.update_row(other, {"note": "mine"}),
            twitch.delete_row(other),
            twitch[other],
            db(twitch.platform == "discord").update(note="mine"),
            db(twitch.id == other, ignore_common_filters=True).update(note="mine"),
            db(twitch.id > 0, ignore_common_filters=True).delete(),
        ]

    assert await running.writes.run(attempts) == [None, None, False, None, 0, 0, 0]
    assert theirs.rows(Integrations, "platform", "note") == [("discord", "theirs")]


async def test_what_is_only_read_takes_no_write(running: Running, theirs: Others) -> None:
    row = theirs.add(Events, kind="a")
    attempts = [
        lambda db: db[SharedEvents].insert_row({"id": 9, "kind": "b"}),
        lambda db: db[SharedEvents].insert(id=9, kind="b"),
        lambda db: db[SharedEvents].update_row(row, {"kind": "b"}),
        lambda db: db(db[SharedEvents].id == row).update(kind="b"),
        lambda db: db[SharedEvents].delete_row(row),
        lambda db: db(db[SharedEvents].id == row).delete(),
    ]
    for attempt in attempts:
        with pytest.raises(
            TypeError, match=r'events belongs to another service, and access\.py has access="read"'
        ):
            await running.writes.run(attempt)
    assert theirs.rows(Events, "id", "kind") == [(row, "a")]


def test_no_body_is_made_of_what_is_only_read() -> None:
    for kind in (Create, Patch):
        with pytest.raises(TypeError, match=r'SharedEvents has access="read" in access\.py'):
            type("EventBody", (SharedEvents, kind), {})


async def test_a_required_column_that_is_not_declared_is_503(
    running: Running, theirs: Others, caplog: pytest.LogCaptureFixture
) -> None:
    def attempt(db: DAL) -> None:
        db[SharedDemanding].insert_row({"kind": "a"})

    with pytest.raises(Unavailable, match="another version"):
        await running.writes.run(attempt)
    (said,) = [each.message for each in caplog.records if each.levelno == logging.ERROR]
    assert "demanding" in said and "access.py does not declare: declare it" in said


async def test_a_table_that_its_owner_has_not_made_is_503(running: Running, theirs: Others) -> None:
    with theirs.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE demanding RENAME TO not_yet"))
    try:
        demanding = query(DemandingRow, sa.select(*public_columns(SharedDemanding)))
        with pytest.raises(Unavailable, match="lacks a table"):
            await running.reads.all(demanding)
        with pytest.raises(Unavailable, match="lacks a table"):
            await running.writes.run(lambda db: db[SharedDemanding].delete_row(1))
    finally:
        with theirs.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE not_yet RENAME TO demanding"))
    assert not await running.reads.all(demanding)


async def test_the_server_refuses_what_the_platform_lets_through(
    running: Running, theirs: Others, request: pytest.FixtureRequest
) -> None:
    if "own account" not in request.node.name and not running.backend.row_view("x"):
        pytest.skip("nothing but the platform guards the rows here")
    theirs.add(Integrations, platform="twitch")
    theirs.add(Integrations, platform="discord")

    def attempt(db: DAL) -> None:
        db._adapter.execute(f"UPDATE {db[Twitch]._rname} SET platform = 'discord'")

    with pytest.raises(BadValue, match="the row would not be one of those that this service may write"):
        await running.writes.run(attempt)
    assert theirs.rows(Integrations, "platform") == [("twitch",), ("discord",)]


async def test_a_service_that_only_reads_has_no_connection_for_writes(
    place: tuple[Settings, Others], theirs: Others
) -> None:
    settings, _ = place
    service = the_service(SharedEvents)
    theirs.add(Events, kind="a")
    # the account has more than this service declares, which is not what is asked here
    async with service.running(settings.model_copy(update={"db_single_account": True})) as running:
        assert (running.writes.size, running.reads.size) == (0, settings.db_pool_size)
        assert len(await running.reads.all(EVENTS)) == 1
        assert await running.not_ready() == ""
        with pytest.raises(TypeError, match="a service that only reads has no units of work"):
            await running.writes.run(lambda db: db[SharedEvents].get_row(1))


async def test_a_table_whose_key_is_not_declared(place: tuple[Settings, Others], theirs: Others) -> None:
    class Kinds(SharedTable, name="events", access="read-write", metadata=sa.MetaData()):
        kind = Column(t.String(40))
        created_at = Column(t.Timestamp(), managed=True)
        updated_at = Column(t.Timestamp(), managed=True)

    def unit(db: DAL) -> list[Any]:
        db[Kinds].insert_row({"kind": "a"})
        db[Kinds].insert(kind="b")
        with pytest.raises(TypeError, match=r"events: access\.py declares no column of its primary key"):
            db[Kinds].get_row(1)
        return [each.kind for each in db(db[Kinds].kind != "").select(orderby=db[Kinds].kind)]

    async with the_service(Kinds).running(theirs.settings) as running:
        assert await running.writes.run(unit) == ["a", "b"]


async def test_an_undeclared_table_is_named(running: Running) -> None:
    class Stranger(SharedTable, name="stranger", metadata=sa.MetaData()):
        id = Column(t.BigInteger(), primary_key=True)

    class StrangerRow(Stranger, Row): ...

    strangers = query(StrangerRow, sa.select(*public_columns(Stranger)))
    with pytest.raises(TypeError, match="the service declares no table stranger"):
        await running.reads.all(strangers)
    with pytest.raises(TypeError, match="the service declares no table stranger"):
        await running.writes.run(lambda db: db[Stranger])
    # a class for a table that another class declares has columns that nobody declared
    with pytest.raises(TypeError, match="the service declares no table events"):
        await running.writes.run(lambda db: db[Events])


def test_a_query_of_an_undeclared_table_is_an_error_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    written = module(QUERY=EVENTS)
    monkeypatch.setitem(__import__("sys").modules, "written_routes", written)
    router = Router("events")

    @router.get("")
    async def list_events(reads: Reads) -> list[EventRow]:
        return await reads.all(EVENTS)

    for route in router.routes:
        route.endpoint.__module__ = "written_routes"  # type: ignore[attr-defined]
    Service("a", sa.MetaData(), [router], access=module(SharedEvents=SharedEvents), root=NOWHERE)
    with pytest.raises(TypeError, match="EventRow: the service declares no table events"):
        Service("a", sa.MetaData(), [router], root=NOWHERE)


def test_a_query_of_a_table_without_a_class_is_an_error_at_import() -> None:
    plain = sa.Table("plain", sa.MetaData(), sa.Column("kind", t.String(9)), sa.Column("note", t.String(9)))
    with pytest.raises(TypeError, match=r"plain: declare the table by a class in tables\.py or access\.py"):
        query(Pair, sa.select(plain.c.kind, plain.c.note))
