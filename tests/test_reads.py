"""The read path: no place in the pool is ever lost, nobody waits longer than a limit, nothing is written."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import DAL, BadValue, NotFound, Row, Statement, Unavailable, query
from dbservice.engines import Engine
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from .provoke import Proxy, client_of, kill, kill_all, sessions, slow, started, until
from .specimen import Users, users, values


async def all_slots_serve(running: Running, size: int) -> None:
    """Assert that the pool is whole: as large as it was, nobody in it, and so many reads at a time."""
    reads = running.reads
    await until(lambda: reads.in_use == 0)
    tasks = [asyncio.ensure_future(reads.plain("SELECT 1")) for _ in range(size)]
    await asyncio.sleep(0)
    assert reads.in_use == reads.size == size
    assert [tuple(rows[0]) for rows in await asyncio.gather(*tasks)] == [(1,)] * size
    assert reads.in_use == 0


async def cancel(tasks: "Sequence[asyncio.Future[Any]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# --- no slot is lost


async def test_no_slot_is_lost_to_cancelled_reads(migrated: Settings) -> None:
    # a read that is cancelled takes its connection with it, so these are cancelled while opening one, too
    chance = random.Random(3)
    async with started(migrated, pool=3) as running:
        for _ in range(40):
            reads = [asyncio.ensure_future(running.reads.plain("SELECT 1")) for _ in range(4)]
            for _ in range(chance.randrange(250)):
                await asyncio.sleep(0)
            await cancel(reads)
        await all_slots_serve(running, 2)


async def test_no_slot_is_lost_to_reads_cancelled_in_the_middle_of_a_query(migrated: Settings) -> None:
    async with started(migrated, pool=3) as running:
        for _ in range(5):
            reads = [asyncio.ensure_future(running.reads.plain(slow(migrated, 5))) for _ in range(4)]
            await asyncio.sleep(0.05)
            await cancel(reads)
        await all_slots_serve(running, 2)


async def test_no_slot_is_lost_to_timeouts(migrated: Settings) -> None:
    async with started(migrated, pool=3, statement=0.2) as running:
        for _ in range(2):
            reads = [running.reads.plain(slow(migrated, 5)) for _ in range(2)]
            answers = await asyncio.gather(*reads, return_exceptions=True)
            assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
        await all_slots_serve(running, 2)


async def test_no_slot_is_lost_to_failed_statements(migrated: Settings) -> None:
    async with started(migrated, pool=3) as running:
        for _ in range(5):
            with pytest.raises(Exception, match="nowhere"):
                await running.reads.plain("SELECT 1 FROM nowhere")
        await all_slots_serve(running, 2)


async def test_no_slot_is_lost_to_killed_connections(server: Server, place: Settings) -> None:
    async with started(place, pool=5) as running:
        await all_slots_serve(running, 3)
        assert kill_all(server, place) >= 3
        await all_slots_serve(running, 3)  # and nobody has been told
        reading = asyncio.ensure_future(running.reads.plain(slow(place, 0.5)))
        await until(lambda: running.reads.in_use == 1)
        await asyncio.sleep(0.1)
        kill_all(server, place)
        assert tuple((await reading)[0]) == (1,)  # run again: a read may be
        await all_slots_serve(running, 3)


async def test_a_farewell_that_came_before_the_end_of_the_connection_is_understood(
    server: Server, place: Settings
) -> None:
    with Proxy(place) as proxy:
        async with started(proxy.settings, pool=2) as running:
            proxy.lingers, before = True, proxy.farewells
            assert kill_all(server, place) == 1
            await until(lambda: proxy.farewells > before)
            await asyncio.sleep(0.1)  # the driver has read it, too
            assert tuple((await running.reads.plain("SELECT 1"))[0]) == (1,)
            proxy.lingers = False


async def test_a_read_that_is_killed_each_time_is_given_up(server: Server, place: Settings) -> None:
    async with started(place, pool=3) as running:
        reading = asyncio.ensure_future(running.reads.plain(slow(place, 5)))
        while not reading.done():
            for session in sessions(server, place):
                kill(server, session)
            await asyncio.sleep(0.05)
        assert isinstance(reading.exception(), Unavailable)
        await all_slots_serve(running, 2)


async def test_no_slot_is_lost_to_a_server_that_hangs(place: Settings) -> None:
    with Proxy(place) as proxy:
        async with started(proxy.settings, pool=4, connect=0.4, acquire=0.2, statement=0.4) as running:
            proxy.hold()
            for _ in range(3):  # the first have connections; the others open some that never stand
                answers = await asyncio.gather(
                    *(running.reads.plain("SELECT 1") for _ in range(5)), return_exceptions=True
                )
                assert [type(answer) for answer in answers] == [Unavailable] * 5
            proxy.resume()
            await all_slots_serve(running, 2)


async def test_a_cancelled_opening_holds_nobody_up(place: Settings) -> None:
    async with started(place, pool=2, statement=5) as running:
        for steps in range(0, 200, 20):
            reading = asyncio.ensure_future(running.reads.plain("SELECT 1"))
            for _ in range(steps):
                await asyncio.sleep(0)
            await cancel([reading])
            async with asyncio.timeout(3):
                await running.reads.plain("SELECT 1")


# --- never more connections than DB_POOL_SIZE


async def test_the_server_never_has_more_connections_than_the_pool_is_large(
    server: Server, place: Settings
) -> None:
    most = 0
    async with started(place, pool=4) as running:
        for _ in range(8):
            reads = [asyncio.ensure_future(running.reads.plain(slow(place, 5))) for _ in range(3)]
            await asyncio.sleep(0.05)
            await cancel(reads)
            most = max(most, len(sessions(server, place)))
        assert 0 < most <= 4
    await until(lambda: not sessions(server, place))


async def test_what_a_cancelled_read_asked_for_ends_in_the_server(server: Server, place: Settings) -> None:
    async with started(place, pool=2) as running:
        reading = asyncio.ensure_future(running.reads.plain(slow(place, 9)))
        await asyncio.sleep(0.1)
        (session,) = sessions(server, place)
        await cancel([reading])
        await until(lambda: session not in sessions(server, place), 4)


async def test_stop_waits_for_reads_and_leaves_no_connection(server: Server, place: Settings) -> None:
    async with asyncio.timeout(8):
        async with started(place, pool=4, connect=15) as running:
            reads = [asyncio.ensure_future(running.reads.plain(slow(place, 0.4))) for _ in range(2)]
            await asyncio.sleep(0.1)
        assert [tuple(rows[0]) for rows in await asyncio.gather(*reads)] == [(1,), (1,)]
    await until(lambda: not sessions(server, place))


async def test_a_stop_does_not_fail_for_a_read_that_waits_longer_than_others_may(place: Settings) -> None:
    async with asyncio.timeout(8):
        async with started(place, pool=2, acquire=0.1, statement=2) as running:
            reading = asyncio.ensure_future(running.reads.plain(slow(place, 0.6)))
            await until(lambda: running.reads.in_use == 1)
        assert len(await reading) == 1


# --- limits


async def test_a_read_that_waits_too_long_for_a_connection_is_told_to_come_again(migrated: Settings) -> None:
    async with started(migrated, pool=3, acquire=0.2, statement=3) as running, client_of(running) as client:
        reads = [asyncio.ensure_future(running.reads.plain(slow(migrated, 5))) for _ in range(2)]
        await until(lambda: running.reads.in_use == 2)
        begun = time.monotonic()
        response = await client.get("/v1/users")
        assert time.monotonic() - begun < 1.5
        await cancel(reads)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["detail"] == "Too many reads are waiting for a connection."
        assert (await client.get("/v1/users")).status_code == 200


async def test_a_query_that_takes_too_long_is_ended(migrated: Settings) -> None:
    async with started(migrated, pool=3, statement=0.5) as running:
        await running.reads.plain(
            "SELECT 1"
        )  # a held connection: a time-out on it is not taken for a lost one
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="too long"):
            await running.reads.plain(slow(migrated, 5))
        assert time.monotonic() - begun < 0.95


async def test_the_server_knows_the_time_limit(server: Server, place: Settings) -> None:
    shown = {
        "postgresql": "SHOW statement_timeout",
        "mariadb": "SELECT CAST(@@max_statement_time * 1000 AS SIGNED)",
        "mysql": "SELECT @@max_execution_time",
    }
    async with started(place, statement=7) as running:
        (row,) = await running.reads.plain(shown[server.engine])
        assert str(row[0]) in ("7s", "7000")


async def test_readers_are_served_in_the_order_they_came(migrated: Settings) -> None:
    order: list[int] = []

    async def read(*numbers: int) -> None:
        for number in numbers:
            await running.reads.plain("SELECT 1")
            order.append(number)

    async with started(migrated, pool=2) as running:
        # who comes back at once goes to the end of the line
        await asyncio.gather(read(0, 10), *(read(number) for number in range(1, 10)))
    assert order == list(range(11))


async def test_several_reads_of_one_request_do_not_wait_for_each_other(migrated: Settings) -> None:
    async with started(migrated, pool=2) as running:
        async with asyncio.timeout(5):
            rows = await asyncio.gather(*(running.reads.plain("SELECT 1") for _ in range(20)))
        assert len(rows) == 20


# --- reads only


async def test_the_server_refuses_to_write_over_a_read_connection(running: Running) -> None:
    statements = (
        "INSERT INTO users (email, created_at, updated_at) VALUES ('a', '2024-01-01', '2024-01-01')",
        "UPDATE users SET email = 'b'",
        "DELETE FROM users",
        "CREATE TABLE made (id INTEGER)",
    )
    for statement in statements:
        with pytest.raises(Exception, match=r"(?i)read.?only"):
            await running.reads.plain(statement)
    (row,) = await running.reads.plain("SELECT count(*) FROM users")
    assert row[0] == 0


# --- queries


class UserEmail(Row):
    id: int
    email: str


BY_EMAIL = query(
    UserEmail, sa.select(users.c.id, users.c.email).where(users.c.email == sa.bindparam("email"))
)


def test_a_query_must_select_the_columns_of_its_row() -> None:
    with pytest.raises(TypeError, match=r"UserEmail has the columns \['id', 'email'\].*\['email', 'id'\]"):
        query(UserEmail, sa.select(users.c.email, users.c.id))


async def test_a_query_takes_its_parameters_and_no_others(running: Running) -> None:
    for wrong in ({}, {"mail": "a"}, {"email": "a", "id": 1}):
        with pytest.raises(TypeError, match=r"takes \['email'\], not"):
            await running.reads.all(BY_EMAIL, **wrong)
    assert running.reads.in_use == 0


async def test_a_query_refuses_what_its_column_cannot_hold(running: Running) -> None:
    for wrong in ("a\0b", 5):
        with pytest.raises(BadValue, match="email "):
            await running.reads.all(BY_EMAIL, email=wrong)


async def test_a_parameter_without_a_column_is_refused_too(running: Running) -> None:
    limited = query(UserEmail, sa.select(users.c.id, users.c.email).limit(sa.bindparam("limit")))
    with pytest.raises(Exception) as raised:
        await running.reads.all(limited, limit="a dozen")
    assert not isinstance(raised.value, Unavailable)


async def test_no_row_is_not_found(running: Running) -> None:
    assert await running.reads.first(BY_EMAIL, email="nobody") is None
    with pytest.raises(NotFound):
        await running.reads.one(BY_EMAIL, email="nobody")


async def test_an_in_list_is_refused(running: Running) -> None:
    listed = query(UserEmail, sa.select(users.c.id, users.c.email).where(users.c.id.in_(sa.bindparam("ids"))))
    with pytest.raises(TypeError, match="IN list"):
        await running.reads.all(listed, ids=[1, 2])


async def test_a_query_is_compiled_once(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    class ValuesId(Row):
        id: int

    compiled: list[Engine] = []
    compiler = type(running.engine).compiler

    def counted(engine: Engine) -> sa.Dialect:
        compiled.append(engine)
        return compiler(engine)

    monkeypatch.setattr(type(running.engine), "compiler", counted)
    every = query(ValuesId, sa.select(values.c.id))
    for _ in range(3):
        assert await running.reads.all(every) == []
    assert len(compiled) == 1


# --- queries that are functions


@query(UserEmail)
def by_id(id: int) -> Statement:
    """The user with this id."""
    return sa.select(users.c.id, users.c.email).where(users.c.id == id)


@query(UserEmail)
def after(after: int = 0, limit: int = 2) -> Statement:
    return sa.select(users.c.id, users.c.email).where(users.c.id > after).order_by(users.c.id).limit(limit)


@pytest.fixture
async def added(running: Running) -> list[int]:
    """The ids of three users."""

    def add(db: DAL) -> list[int]:
        return [db[Users].add({"email": email})["id"] for email in "abc"]

    return await running.writes.run(add)


async def test_a_function_is_a_query_with_its_parameters(running: Running, added: list[int]) -> None:
    reads = running.reads
    assert by_id.__doc__ == "The user with this id."
    assert (await reads.one(by_id, id=added[1])).email == (await reads.one(by_id, added[1])).email == "b"
    with pytest.raises(BadValue, match="id must be a whole number"):
        await reads.one(by_id, id="1")  # type: ignore[arg-type]
    for wrong in ({}, {"user_id": 1}, {"id": 1, "more": 1}):
        with pytest.raises(TypeError, match=r"takes \['id'\], not"):
            await reads.one(by_id, **wrong)
    for many in ([1, 2], [1, 2, 3]):
        with pytest.raises(TypeError, match=r"takes \['id'\], not \d arguments"):
            await reads.one(by_id, *many)
    with pytest.raises(TypeError, match=r"takes \['id'\], not 1 arguments and \['id'\]"):
        await reads.one(by_id, 1, id=1)  # type: ignore[misc]


async def test_a_parameter_that_is_left_out_has_its_default(running: Running, added: list[int]) -> None:
    reads = running.reads
    assert [row.id for row in await reads.all(after)] == added[:2]
    assert [row.id for row in await reads.all(after, added[0])] == added[1:]
    assert [row.id for row in await reads.all(after, limit=1)] == added[:1]
    page = await reads.page(after)
    assert ([row.id for row in page.items], page.next) == (added[:2], added[1])
    page = await reads.page(after, added[1], limit=5)
    assert ([row.id for row in page.items], page.next) == (added[2:], None)


async def test_a_page_needs_a_limit(running: Running) -> None:
    with pytest.raises(
        TypeError, match=r"^page\(\) needs a query with a parameter `limit`, a whole number, "
    ):
        await running.reads.page(by_id, id=1)
    with pytest.raises(TypeError, match=r"takes \['id'\], not \['id', 'limit'\]"):
        await running.reads.page(by_id, id=1, limit=1)  # type: ignore[call-arg]


async def test_one_of_several_rows_is_a_mistake(running: Running, added: list[int]) -> None:
    first = await running.reads.first(after)
    assert first is not None and first.id == added[0]
    with pytest.raises(RuntimeError, match=r"^one\(\) got several rows: 2 of UserEmail; "):
        await running.reads.one(after)


def test_a_function_that_is_no_query_is_refused() -> None:
    every = sa.select(users.c.id, users.c.email)
    with pytest.raises(TypeError, match="unused: the statement does not use more"):

        @query(UserEmail)
        def unused(id: int, more: int) -> Statement:
            return every.where(users.c.id == id)

    with pytest.raises(
        TypeError, match="branching: its parameters are placeholders here and have no values; write one"
    ):

        @query(UserEmail)
        def branching(active: bool) -> Statement:
            return every if active else every.limit(1)

    with pytest.raises(TypeError, match=r"loose: write every parameter by its name, instead of \*ids"):

        @query(UserEmail)
        def loose(*ids: int) -> Statement:
            return every

    with pytest.raises(TypeError, match="UserEmail has the columns"):

        @query(UserEmail)
        def columns() -> Statement:
            return sa.select(users.c.email)


async def test_a_list_as_a_parameter_is_refused(running: Running) -> None:
    @query(UserEmail)
    def among(ids: list[int]) -> Statement:
        return sa.select(users.c.id, users.c.email).where(users.c.id.in_(ids))

    with pytest.raises(TypeError, match="IN list"):
        await running.reads.all(among, ids=[1, 2])
