"""A unit of work is run again as a whole where the engine says so, and never when its outcome is unknown."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from dbservice import DAL, Unavailable
from dbservice.backends import ErrorKind, backend_for
from dbservice.backends.mysql import connection as mysql
from dbservice.errors import OutcomeUnknown
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..faults import Proxy, kill, kill_all, sessions, slow, wait_until
from ..sample_service import add_users, client_of, started, stored_emails, users


def own_session(db: DAL) -> int:
    """The connection that a unit of work runs on, as the server knows it."""
    ask = "SELECT pg_backend_pid()" if db._backend.name == "postgresql" else "SELECT connection_id()"
    return int(db.executesql(ask)[0][0])


def provoke_error(db: DAL, code: str) -> None:
    """Make the server raise this error."""
    if db._backend.name == "postgresql":
        db.executesql(f"DO $$ BEGIN RAISE EXCEPTION 'provoked' USING ERRCODE = '{code}'; END $$")
    else:
        db.executesql(f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'provoked'")


async def test_two_units_that_deadlock_are_both_stored(server: Server, empty: Settings) -> None:
    attempts: list[str] = []
    meeting = threading.Barrier(2)

    def move(db: DAL, first: str, second: str) -> None:
        attempts.append(first)
        table = db[users]
        db(table.email == first).update(note=f"{first} first")
        if attempts.count(first) == 1:
            meeting.wait(60)
        db(table.email == second).update(note=f"{first} first")

    async with started(empty, pool=4) as running:
        await running.writes.run(add_users, "a", "b")
        await asyncio.gather(running.writes.run(move, "a", "b"), running.writes.run(move, "b", "a"))
    # once more; on a busy machine the same two may meet again
    assert set(attempts) == {"a", "b"} and len(attempts) > 2


async def test_units_that_deadlock_at_every_meeting_all_get_through(server: Server, empty: Settings) -> None:
    """PostgreSQL needs a second to find a deadlock: retried at the same time, one unit a second would get through."""

    def move(db: DAL, first: str, second: str) -> None:
        table = db[users]
        db(table.email == first).update(note=f"{first} first")
        time.sleep(0.002)
        db(table.email == second).update(note=f"{first} first")

    async with started(empty, pool=16, statement=10.0, write=15.0) as running:
        await running.writes.run(add_users, "a", "b")

        async def client(*emails: str) -> None:
            for _ in range(10):
                await running.writes.run(move, *emails)

        async with asyncio.timeout(60):
            await asyncio.gather(*(client(*("ab" if n % 2 else "ba")) for n in range(8)))


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
        add_users(db, email)
        if attempts <= failures:
            provoke_error(db, codes[server.type][fault])
        return attempts

    async with started(empty, attempts=3) as running:
        assert await running.writes.run(unlucky, 2, "a") == 3
        attempts = 0
        with pytest.raises(Unavailable, match="nothing was stored"):
            await running.writes.run(unlucky, 99, "b")
    assert attempts == 3
    assert stored_emails(empty) == ["a"]


async def test_a_connection_to_a_read_only_server_is_replaced(server: Server, empty: Settings) -> None:
    """After a failover the old connections lead to what is a replica now."""
    sessions = []

    def unit(db: DAL) -> None:
        sessions.append(own_session(db))
        provoke_error(db, "25006" if server.type == "postgresql" else "1290")

    async with started(empty) as running:
        with pytest.raises(Unavailable, match="takes no writes now; nothing was stored"):
            await running.writes.run(unit)
    assert len(set(sessions)) == 2


async def test_a_unit_that_is_given_up_frees_its_thread(running: Running) -> None:
    """SQLite has one writer: all would wait for it."""
    begun = threading.Event()

    def endless(db: DAL) -> None:
        begun.set()
        db.executesql(slow(running.backend.settings, 60))

    async with started(running.backend.settings, pool=2, write=2) as other:
        with pytest.raises(OutcomeUnknown):
            await other.writes.run(endless)
        assert begun.is_set()
        await other.writes.run(add_users, "a")


async def test_a_wait_for_a_locked_row_ends(
    server: Server, empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "_LOCK_WAIT", 1)

    def rename(db: DAL) -> None:
        db(db[users].email == "a").update(note="mine")

    async with started(empty, statement=2, attempts=1) as running:
        await running.writes.run(add_users, "a")
        other = backend_for(empty).connect(autocommit=False)
        other.cursor().execute("UPDATE users SET note = 'theirs'")
        async with asyncio.timeout(40):
            with pytest.raises(Unavailable, match="nothing was stored"):
                await running.writes.run(rename)
        other.rollback()
        other.close()
        await running.writes.run(rename)


async def test_a_connection_killed_while_idle_is_replaced(server: Server, empty: Settings) -> None:
    async with started(empty, pool=4) as running:
        await asyncio.gather(*(running.writes.run(add_users, f"a{n}") for n in range(4)))
        assert kill_all(server, empty) >= 2
        await asyncio.gather(*(running.writes.run(add_users, f"b{n}") for n in range(4)))
    assert stored_emails(empty) == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]


async def test_a_connection_killed_in_the_middle_of_a_unit_makes_it_run_again(
    server: Server, empty: Settings
) -> None:
    attempts = 0

    def killed(db: DAL, times: int, *emails: str) -> None:
        nonlocal attempts
        attempts += 1
        add_users(db, emails[0])
        if attempts <= times:
            session = own_session(db)
            kill(server, session)
            wait_until(lambda: session not in sessions(server, empty))
        add_users(db, *emails[1:])

    async with started(empty) as running:
        await running.writes.run(killed, 1, "a", "b")
        assert (attempts, stored_emails(empty)) == (2, ["a", "b"])
        attempts = 0
        with pytest.raises(Unavailable, match="nothing was stored"):
            await running.writes.run(killed, 9, "c", "d")
        assert (attempts, stored_emails(empty)) == (2, ["a", "b"])
        await running.writes.run(add_users, "e")


@pytest.mark.parametrize("delivered", [True, False], ids=["heard", "not heard"])
async def test_a_commit_whose_answer_is_lost_is_never_tried_again(
    server: Server, empty: Settings, delivered: bool
) -> None:
    attempts = 0

    def count_and_add(db: DAL) -> None:
        nonlocal attempts
        attempts += 1
        add_users(db, "a")

    with Proxy(empty) as proxy:
        async with started(proxy.settings) as running:
            proxy.cut_at("COMMIT", delivered=delivered)
            with pytest.raises(OutcomeUnknown):
                await running.writes.run(count_and_add)
            assert (proxy.cuts, attempts) == (1, 1)
            await running.writes.run(add_users, "b")
    assert stored_emails(empty) == (["a", "b"] if delivered else ["b"])


async def test_an_unknown_outcome_is_reported_to_the_client(empty: Settings) -> None:
    with Proxy(empty) as proxy:
        async with started(proxy.settings) as running, client_of(running) as client:
            proxy.cut_at("COMMIT", delivered=True)
            response = await client.post("/v1/users", json={"email": "a"})
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert response.json()["title"] == "Outcome unknown"
            assert (await client.post("/v1/users", json={"email": "a"})).status_code == 409


async def test_a_server_that_hangs_costs_no_thread(empty: Settings) -> None:
    with Proxy(empty) as proxy:
        async with started(proxy.settings, pool=2, connect=2, statement=2, write=4) as running:
            await running.writes.run(add_users, "a")
            proxy.hold()
            async with asyncio.timeout(60):
                with pytest.raises((OutcomeUnknown, Unavailable)):
                    await running.writes.run(add_users, "b")
            proxy.resume()
            async with asyncio.timeout(60):
                while "c" not in stored_emails(empty):
                    with suppress(Unavailable):
                        await running.writes.run(add_users, "c")
            assert stored_emails(empty) == ["a", "c"]


def test_every_error_on_a_lost_connection_is_classified_as_lost(
    server: Server, server_settings: Settings
) -> None:
    engine = backend_for(server_settings)
    connection = engine.connect()
    cursor = connection.cursor()
    kill_all(server, server_settings)
    faults: list[ErrorKind] = []
    steps: list[Callable[[], Any]] = [
        lambda: cursor.execute("SELECT 1"),  # the server's farewell
        lambda: cursor.execute("SELECT 1"),  # the driver knows
        lambda: connection.cursor().execute("SELECT 1"),
    ]
    for step in steps:
        with pytest.raises(Exception) as raised:
            step()
        faults.append(engine.classify_error(raised.value))
    assert faults == [ErrorKind.LOST] * 3
