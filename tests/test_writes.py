"""The write path: a unit of work is stored whole or not at all, once; who is told that it was stored can rely on it."""

import asyncio
import contextvars
import gc
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa

from dbservice import DAL, Conflict, NotFound, Unavailable
from dbservice.engines import Fault, engine_of, mysql
from dbservice.errors import OutcomeUnknown
from dbservice.schema import Column, Table
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server
from dbservice.types import String

from .provoke import (
    Proxy,
    client_of,
    kill,
    kill_all,
    sessions,
    slow,
    started,
    until,
    wait_until,
)
from .specimen import items, users


@pytest.fixture
def empty(place: Settings) -> Settings:
    """The same, and nobody in it."""
    connection = engine_of(place).connect()
    for table in ("items", "users"):
        connection.cursor().execute(f"DELETE FROM {table}")
    connection.close()
    return place


def stored(settings: Settings) -> list[str]:
    """The users that the database holds, by the driver alone."""
    connection = engine_of(settings).connect()
    cursor = connection.cursor()
    cursor.execute("SELECT email FROM users ORDER BY email")
    found = [email for (email,) in cursor.fetchall()]
    connection.close()
    return found


def add(db: DAL, *emails: str) -> None:
    for email in emails:
        db[users].insert(email=email)


def own_session(db: DAL) -> int:
    """The connection that a unit of work runs on, as the server knows it."""
    ask = "SELECT pg_backend_pid()" if db._engine.name == "postgresql" else "SELECT connection_id()"
    return int(db.executesql(ask)[0][0])


def provoke_error(db: DAL, code: str) -> None:
    """Make the server raise this error."""
    if db._engine.name == "postgresql":
        db.executesql(f"DO $$ BEGIN RAISE EXCEPTION 'provoked' USING ERRCODE = '{code}'; END $$")
    else:
        db.executesql(f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'provoked'")


class Blocked:
    """Units of work that wait, each on a thread of its own, until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.running = 0

    def __call__(self, db: DAL, email: str = "") -> None:
        self.running += 1
        assert self.go.wait(20)
        if email:
            add(db, email)


# --- whole or not at all


async def test_returning_commits(running: Running) -> None:
    await running.writes.run(add, "a", "b")
    assert stored(running.engine.settings) == ["a", "b"]


async def test_raising_rolls_back(running: Running) -> None:
    def add_and_fail(db: DAL) -> None:
        add(db, "a")
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError, match="no"):
        await running.writes.run(add_and_fail)
    await running.writes.run(add, "b")
    assert stored(running.engine.settings) == ["b"]


async def test_what_a_unit_returns_is_answered(running: Running) -> None:
    def double(db: DAL, number: int, *, plus: int = 0) -> int:
        return 2 * number + plus

    assert await running.writes.run(double, 3, plus=1) == 7


async def test_a_problem_that_a_unit_raises_arrives_as_it_is(running: Running) -> None:
    problem = NotFound("nothing here")

    def fail(db: DAL) -> None:
        raise problem

    with pytest.raises(NotFound) as raised:
        await running.writes.run(fail)
    assert raised.value is problem


async def test_a_unit_that_would_run_later_is_refused(running: Running) -> None:
    async def coroutine(db: DAL) -> None:
        add(db, "a")

    def generator(db: DAL) -> Any:
        add(db, "b")
        yield

    for unit in (coroutine, generator):
        with pytest.raises(TypeError, match="a unit of work is a plain function"):
            await running.writes.run(unit)
    assert stored(running.engine.settings) == []


async def test_a_unit_that_runs_out_of_an_iterator_fails_and_does_not_hang(running: Running) -> None:
    # a future does not take StopIteration
    def next_of_nothing(db: DAL) -> Any:
        return next(iter([]))

    with pytest.raises(RuntimeError, match="StopIteration"):
        await running.writes.run(next_of_nothing)
    assert running.writes.in_flight == 0


@pytest.mark.parametrize("word", ["commit", "rollback", "close"])
async def test_a_unit_may_not_end_its_transaction_itself(running: Running, word: str) -> None:
    def add_and_say(db: DAL) -> None:
        add(db, "a")
        getattr(db, word)()

    with pytest.raises(RuntimeError, match="commits by returning"):
        await running.writes.run(add_and_say)
    assert stored(running.engine.settings) == []
    await running.writes.run(add, "b")
    assert stored(running.engine.settings) == ["b"]


async def test_pydal_works_inside_a_unit_only(running: Running) -> None:
    db = running.writes.db
    with pytest.raises(RuntimeError, match="inside a unit of work"):
        db(db[users].id > 0).select()
    assert db._adapter.held_connection() is None


async def test_an_error_of_a_statement_that_was_swallowed_is_never_a_success(
    server: Server, empty: Settings
) -> None:
    async with started(empty) as running:
        await running.writes.run(add, "a")

        def add_in_any_case(db: DAL) -> None:
            add(db, "b")
            with suppress(Exception):
                add(db, "a")

        if server.engine == "postgresql":  # has rolled all of it back by now, and takes COMMIT for ROLLBACK
            with pytest.raises(RuntimeError, match="nothing was stored"):
                await running.writes.run(add_in_any_case)
            assert stored(empty) == ["a"]
        else:  # has rolled back the one statement
            await running.writes.run(add_in_any_case)
            assert stored(empty) == ["a", "b"]


# --- again as a whole, where the engine says so


async def test_of_two_units_that_deadlock_both_are_stored(server: Server, empty: Settings) -> None:
    attempts: list[str] = []
    meeting = threading.Barrier(2)

    def move(db: DAL, first: str, second: str) -> None:
        attempts.append(first)
        table = db[users]
        db(table.email == first).update(note=f"{first} first")
        if attempts.count(first) == 1:
            meeting.wait(10)
        db(table.email == second).update(note=f"{first} first")

    async with started(empty, pool=4) as running:
        await running.writes.run(add, "a", "b")
        await asyncio.gather(running.writes.run(move, "a", "b"), running.writes.run(move, "b", "a"))
    assert sorted(attempts) in (["a", "a", "b"], ["a", "b", "b"])


@pytest.mark.parametrize("fault", ["deadlock", "lock wait", "serialization"])
async def test_a_unit_is_run_again_from_its_beginning(server: Server, empty: Settings, fault: str) -> None:
    codes = {
        "postgresql": {"deadlock": "40P01", "lock wait": "55P03", "serialization": "40001"},
        "mysql": {"deadlock": "1213", "lock wait": "1205", "serialization": "1213"},
    }
    attempts = 0

    def unlucky(db: DAL, failures: int, email: str) -> int:
        nonlocal attempts
        attempts += 1
        add(db, email)
        if attempts <= failures:
            provoke_error(db, codes[server.type][fault])
        return attempts

    async with started(empty, attempts=3) as running:
        assert await running.writes.run(unlucky, 2, "a") == 3
        attempts = 0
        with pytest.raises(Unavailable, match="nothing was stored"):
            await running.writes.run(unlucky, 99, "b")
    assert attempts == 3
    assert stored(empty) == ["a"]


async def test_a_server_that_takes_no_writes_is_left_for_another(server: Server, empty: Settings) -> None:
    """After a failover the old connections lead to what is a replica now."""
    sessions = []

    def unit(db: DAL) -> None:
        sessions.append(own_session(db))
        provoke_error(db, "25006" if server.type == "postgresql" else "1290")

    async with started(empty) as running:
        with pytest.raises(Unavailable, match="takes no writes now; nothing was stored"):
            await running.writes.run(unit)
    assert len(set(sessions)) == 2


async def test_an_account_with_too_many_connections_is_worth_waiting_for(place: Settings) -> None:
    if place.db_type == "mysql":
        assert (
            engine_of(place).fault(pymysql.err.OperationalError(1226, "max_user_connections"))
            is Fault.STARTING
        )


async def test_an_abandoned_unit_frees_its_thread(running: Running) -> None:
    """SQLite has one writer: all would wait for it."""
    begun = threading.Event()

    def endless(db: DAL) -> None:
        begun.set()
        db.executesql(slow(running.engine.settings, 60))

    async with started(running.engine.settings, pool=2, write=0.5) as other:
        with pytest.raises(OutcomeUnknown):
            await other.writes.run(endless)
        assert begun.is_set()
        await other.writes.run(add, "a")


async def test_a_wait_for_a_row_ends(
    server: Server, empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "_LOCK_WAIT", 1)

    def rename(db: DAL) -> None:
        db(db[users].email == "a").update(note="mine")

    async with started(empty, statement=1, attempts=1) as running:
        await running.writes.run(add, "a")
        other = engine_of(empty).connect(autocommit=False)
        other.cursor().execute("UPDATE users SET note = 'theirs'")
        async with asyncio.timeout(4):
            with pytest.raises(Unavailable, match="nothing was stored"):
                await running.writes.run(rename)
        other.rollback()
        other.close()
        await running.writes.run(rename)


# --- a connection that is gone


async def test_a_connection_killed_while_idle_is_replaced(server: Server, empty: Settings) -> None:
    async with started(empty, pool=4) as running:
        await asyncio.gather(*(running.writes.run(add, f"a{n}") for n in range(4)))
        assert kill_all(server, empty) >= 2
        await asyncio.gather(*(running.writes.run(add, f"b{n}") for n in range(4)))
    assert stored(empty) == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]


async def test_a_connection_killed_in_the_middle_of_a_unit_makes_it_run_again(
    server: Server, empty: Settings
) -> None:
    attempts = 0

    def killed(db: DAL, times: int, *emails: str) -> None:
        nonlocal attempts
        attempts += 1
        add(db, emails[0])
        if attempts <= times:
            session = own_session(db)
            kill(server, session)
            wait_until(lambda: session not in sessions(server, empty))
        add(db, *emails[1:])

    async with started(empty) as running:
        await running.writes.run(killed, 1, "a", "b")
        assert (attempts, stored(empty)) == (2, ["a", "b"])
        attempts = 0
        with pytest.raises(Unavailable, match="nothing was stored"):
            await running.writes.run(killed, 9, "c", "d")
        assert (attempts, stored(empty)) == (2, ["a", "b"])
        await running.writes.run(add, "e")


@pytest.mark.parametrize("delivered", [True, False], ids=["heard", "not heard"])
async def test_a_commit_whose_answer_is_lost_is_never_tried_again(
    server: Server, empty: Settings, delivered: bool
) -> None:
    attempts = 0

    def count_and_add(db: DAL) -> None:
        nonlocal attempts
        attempts += 1
        add(db, "a")

    with Proxy(empty) as proxy:
        async with started(proxy.settings) as running:
            proxy.cut_at("COMMIT", delivered=delivered)
            with pytest.raises(OutcomeUnknown):
                await running.writes.run(count_and_add)
            assert (proxy.cuts, attempts) == (1, 1)
            await running.writes.run(add, "b")
    assert stored(empty) == (["a", "b"] if delivered else ["b"])


async def test_a_lost_answer_to_commit_is_said_to_the_client(empty: Settings) -> None:
    with Proxy(empty) as proxy:
        async with started(proxy.settings) as running, client_of(running) as client:
            proxy.cut_at("COMMIT", delivered=True)
            response = await client.post("/v1/users", json={"email": "a"})
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert response.json()["title"] == "Outcome unknown"
            assert (await client.post("/v1/users", json={"email": "a"})).status_code == 409


async def test_a_server_that_hangs_costs_no_thread(empty: Settings) -> None:
    with Proxy(empty) as proxy:
        async with started(proxy.settings, pool=2, connect=0.5, statement=0.5, write=1.5) as running:
            await running.writes.run(add, "a")
            proxy.hold()
            begun = time.monotonic()
            with pytest.raises((OutcomeUnknown, Unavailable)):
                await running.writes.run(add, "b")
            assert time.monotonic() - begun < 2.5
            proxy.resume()
            async with asyncio.timeout(15):
                while "c" not in stored(empty):
                    with suppress(Unavailable):
                        await running.writes.run(add, "c")
            assert stored(empty) == ["a", "c"]


# --- bounds


async def test_a_full_queue_is_told_to_come_again(migrated: Settings) -> None:
    blocked = Blocked()
    async with started(migrated, queue=1) as running, client_of(running) as client:
        room = 2 * running.writes.size
        waiting = [asyncio.ensure_future(running.writes.run(blocked)) for _ in range(room)]
        await until(lambda: blocked.running == running.writes.size)
        assert running.writes.in_flight == room
        response = await client.post("/v1/order", json={})
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["detail"] == "Too many writes are waiting."
        blocked.go.set()
        await asyncio.gather(*waiting)
        assert running.writes.in_flight == 0
        assert (await client.post("/v1/order", json={})).status_code == 201


async def test_a_unit_that_waits_too_long_for_its_turn_is_never_run(running: Running) -> None:
    blocked = Blocked()
    async with started(running.engine.settings, write=0.3) as hurried:
        waiting = [asyncio.ensure_future(hurried.writes.run(blocked)) for _ in range(hurried.writes.size)]
        await until(lambda: blocked.running == hurried.writes.size)
        with pytest.raises(Unavailable, match="nothing was stored"):
            await hurried.writes.run(add, "a")
        blocked.go.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: hurried.writes.in_flight == 0)
    assert stored(running.engine.settings) == []


async def test_a_unit_that_takes_too_long_may_still_be_stored_and_says_so(running: Running) -> None:
    blocked = Blocked()
    async with started(running.engine.settings, write=0.3) as hurried:
        with pytest.raises(OutcomeUnknown):
            await hurried.writes.run(blocked, "a")
        assert hurried.writes.in_flight == 1  # its thread is still taken
        blocked.go.set()
        await until(lambda: hurried.writes.in_flight == 0)
    assert stored(running.engine.settings) in ([], ["a"])


async def test_a_cancelled_unit_that_waits_is_never_run_one_that_runs_is_finished(running: Running) -> None:
    blocked = Blocked()
    count = running.writes.size
    begun = [asyncio.ensure_future(running.writes.run(blocked, f"begun {n}")) for n in range(count)]
    await until(lambda: blocked.running == count)
    waiting = asyncio.ensure_future(running.writes.run(add, "waiting"))
    await asyncio.sleep(0)
    for task in [*begun, waiting]:
        task.cancel()
    await asyncio.wait([*begun, waiting])
    assert all(task.cancelled() for task in [*begun, waiting])
    blocked.go.set()
    await until(lambda: running.writes.in_flight == 0)
    await running.writes.run(add, "later")
    assert stored(running.engine.settings) == [*(f"begun {n}" for n in range(count)), "later"]


async def test_stop_finishes_what_is_in_flight(running: Running) -> None:
    blocked = Blocked()
    async with started(running.engine.settings) as stopping:
        count = 3 * stopping.writes.size
        units = [asyncio.ensure_future(stopping.writes.run(blocked, f"a{n}")) for n in range(count)]
        await until(lambda: blocked.running == stopping.writes.size)
        asyncio.get_running_loop().call_later(0.1, blocked.go.set)
    assert stored(running.engine.settings) == [f"a{n}" for n in range(count)]
    await asyncio.gather(*units)
    with pytest.raises(Unavailable):
        async with asyncio.timeout(1):
            await stopping.writes.run(add, "too late")


async def test_threads_are_bounded(running: Running) -> None:
    threads: set[int] = set()

    def note_thread(db: DAL) -> None:
        threads.add(threading.get_ident())
        db(db[users].id > 0).count()

    await asyncio.gather(*(running.writes.run(note_thread) for _ in range(60)))
    assert len(threads) <= running.engine.writers == running.writes.size
    assert threading.get_ident() not in threads


async def test_connections_are_bounded(server: Server, empty: Settings) -> None:
    most = 0
    async with started(empty, pool=5) as running:
        for _ in range(5):
            work: list[Any] = [running.reads.plain("SELECT 1") for _ in range(20)]
            work += [running.writes.run(lambda db: db(db[users].id > 0).count()) for _ in range(20)]
            await asyncio.gather(*work)
            most = max(most, len(sessions(server, empty)))
        assert most == 5
    await until(lambda: not sessions(server, empty))


async def test_context_variables_reach_the_thread(running: Running) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")

    async def write(name: str) -> str:
        request.set(name)
        return await running.writes.run(lambda db: request.get())

    assert await asyncio.gather(*(write(f"r{n}") for n in range(9))) == [f"r{n}" for n in range(9)]


# --- what the database refuses


async def test_a_second_row_with_a_unique_value_is_a_conflict(running: Running) -> None:
    async with client_of(running) as client:
        body = {"email": "hush@secret.example", "password": "hush"}
        assert (await client.post("/v1/users", json=body)).status_code == 201
        response = await client.post("/v1/users", json=body)
    assert response.status_code == 409
    detail = response.json()["detail"]
    assert "uq_users_email" in detail or (running.engine.name == "sqlite" and "(email)" in detail)
    assert "hush" not in response.text


async def test_a_row_that_names_nobody_is_a_conflict(running: Running) -> None:
    async with client_of(running) as client:
        response = await client.post("/v1/items", json={"user_id": 987654321, "key": "hush"})
        assert response.status_code == 409
        assert "fk_items_user_id" in response.json()["detail"] or running.engine.name == "sqlite"
        assert "987654321" not in response.text and "hush" not in response.text
        user = (await client.post("/v1/users", json={"email": "a"})).json()
        assert (await client.post("/v1/items", json={"user_id": user["id"]})).status_code == 201
        response = await client.delete(f"/v1/users/{user['id']}")
        assert response.status_code == 409
        assert (await client.get(f"/v1/users/{user['id']}")).status_code == 200


async def test_a_conflict_leaves_the_connection_usable(running: Running) -> None:
    await running.writes.run(add, "a")
    for _ in range(10):
        with pytest.raises(Conflict):
            await running.writes.run(add, "b", "a")
    await running.writes.run(add, "c")
    assert stored(running.engine.settings) == ["a", "c"]


# --- one DAL and its database


def test_two_dals_never_mix_their_databases(tmp_path: Path) -> None:
    # PyDAL finds a thread's connection by id(adapter), and a new adapter may get the id of one that is gone
    tables = sa.MetaData()

    class Names(Table, name="names", metadata=tables):
        name = Column(String(9))

    def run(db: DAL, unit: Callable[[DAL], Any]) -> Any:
        db.begin_unit()
        answer = unit(db)
        db.end_unit("COMMIT")
        return answer

    def insert(name: str, db: DAL) -> None:
        db[Names].insert(name=name)

    gc.freeze()  # what is there already need not be looked through each time
    engines = [
        engine_of(Settings.load({"DB_TYPE": "sqlite", "DB_NAME": str(tmp_path / name)})) for name in "ab"
    ]
    with ThreadPoolExecutor(1) as thread:  # one that outlives them all
        for engine, name in zip(engines, "ab", strict=True):
            sync = engine.sqlalchemy()
            tables.create_all(sync)
            sync.dispose()
            thread.submit(run, DAL(engine, tables), partial(insert, name)).result()
        read, asked, chance = "", "", random.Random(7)
        for number in range(200):
            which = chance.randrange(2)
            asked += "ab"[which]
            unit = thread.submit(run, DAL(engines[which], tables), lambda db: db(db[Names].id > 0).select())
            read += unit.result().first().name
            del unit
            if number % 10 == 0:
                gc.collect()
    gc.unfreeze()
    assert read == asked


def test_every_fault_of_a_lost_connection_is_known_as_such(server: Server, place: Settings) -> None:
    engine = engine_of(place)
    connection = engine.connect()
    cursor = connection.cursor()
    kill_all(server, place)
    faults: list[Fault] = []
    steps: list[Callable[[], Any]] = [
        lambda: cursor.execute("SELECT 1"),  # the server's farewell
        lambda: cursor.execute("SELECT 1"),  # the driver knows
        lambda: connection.cursor().execute("SELECT 1"),
    ]
    for step in steps:
        with pytest.raises(Exception) as raised:
            step()
        faults.append(engine.fault(raised.value))
    assert faults == [Fault.LOST] * 3


async def test_items_of_a_user_are_not_touched_by_a_failed_unit(running: Running) -> None:
    def replace(db: DAL) -> None:
        user = db[users].insert(email="owner")
        for n in range(3):
            db[items].insert(user_id=user, key=str(n))
        db(db[items].user_id == user).delete()
        db[items].insert(user_id=user + 1000)

    with pytest.raises(Conflict):
        await running.writes.run(replace)
    assert stored(running.engine.settings) == []
