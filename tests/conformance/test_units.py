"""Errors in a unit of work: its own pass through untouched, the database's are translated where they happen, and a unit
that continues after one stores nothing."""

import contextlib
import smtplib
import ssl
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from dbservice import DAL, BadValue, Conflict, Unavailable
from dbservice.addresses import Address
from dbservice.backends import backend_for
from dbservice.backends.hosts import Hosts
from dbservice.errors import ServiceError
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..faults import kill, sessions, wait_until
from ..sample_service import add_users, items, started, stored_emails, users, values
from .test_retries import own_session, provoke_error

DEADLOCK = {"postgresql": "40P01", "mysql": "1213"}


class Attempts:
    """A unit of work that counts how often it runs: it adds user `a`, then does what it is told to."""

    def __init__(self, then: Callable[[DAL, int], Any]) -> None:
        self.then, self.count = then, 0

    def __call__(self, db: DAL) -> Any:
        self.count += 1
        add_users(db, "a")
        return self.then(db, self.count)


# --- errors of its own


@pytest.mark.parametrize(
    "error",
    [
        OSError("no space left on device"),
        FileNotFoundError(2, "No such file or directory", "report.pdf"),
        OSError("unable to open database file"),
        TimeoutError("the other service does not answer"),
        ConnectionResetError(104, "Connection reset by peer"),
        BrokenPipeError(32, "Broken pipe"),
        smtplib.SMTPServerDisconnected("Connection unexpectedly closed"),
        ssl.SSLError("handshake failure"),
        EOFError("end of file"),
        RuntimeError("the session is closed"),
        ValueError("no active connection"),
    ],
    ids=lambda error: f"{type(error).__name__}: {error}",
)
async def test_an_error_of_a_units_own_is_raised_as_it_is_after_one_run(
    running: Running, error: Exception
) -> None:
    def fail(db: DAL, attempt: int) -> None:
        raise error

    unit = Attempts(fail)
    with pytest.raises(type(error)) as raised:
        await running.writes.run(unit)
    assert raised.value is error
    assert unit.count == 1
    assert stored_emails(running.backend.settings) == []
    await running.writes.run(add_users, "b")
    assert stored_emails(running.backend.settings) == ["b"]


async def test_an_error_of_another_database_is_not_translated(running: Running) -> None:
    """The same driver, and a connection of the unit's own."""

    def fail(db: DAL, attempt: int) -> None:
        other = backend_for(running.backend.settings).connect()
        other.close()
        other.cursor().execute("SELECT 1")

    unit = Attempts(fail)
    with pytest.raises(Exception) as raised:
        await running.writes.run(unit)
    assert not isinstance(raised.value, ServiceError)
    assert unit.count == 1
    assert stored_emails(running.backend.settings) == []


# --- errors of the database that a unit catches


async def test_a_unit_may_answer_a_conflict_in_its_own_way(running: Running) -> None:
    class TakenError(Exception):
        """The unit's own."""

    def register(db: DAL, email: str) -> int:
        try:
            return int(db[users].insert_row({"email": email})["id"])
        except Conflict as conflict:
            raise TakenError(conflict.detail) from conflict

    await running.writes.run(register, "a")
    with pytest.raises(TakenError, match="email"):
        await running.writes.run(register, "a")
    assert stored_emails(running.backend.settings) == ["a"]


async def test_every_refusal_of_the_database_is_caught_by_its_name(running: Running) -> None:
    def overflow(db: DAL, user: int) -> None:
        db(db[items].user_id == user).update(parent_id=db[items].parent_id + (2**63 - 1))

    refusals: list[tuple[type[Exception], Callable[[DAL, int], Any]]] = [
        (Conflict, lambda db, user: db[users].insert(email="a")),
        (Conflict, lambda db, user: db(db[users].email == "b").update(email="a")),
        (Conflict, lambda db, user: db[items].insert(user_id=user + 1000)),
        (Conflict, lambda db, user: db[users].delete_row(user)),
        (BadValue, overflow),
        (BadValue, lambda db, user: db[users].insert(password="x")),
    ]

    def prepare(db: DAL) -> int:
        add_users(db, "a", "b")
        user = int(db(db[users].email == "a").select().first().id)
        item = db[items].insert(user_id=user)
        db[items].insert(user_id=user, parent_id=item)
        return user

    user = await running.writes.run(prepare)
    for kind, refused in refusals:

        def catch(db: DAL, kind: type[Exception] = kind, refused: Any = refused) -> str:
            with pytest.raises(kind) as raised:
                refused(db, user)
            raise ArithmeticError(str(raised.value))

        with pytest.raises(ArithmeticError):
            await running.writes.run(catch)


@pytest.mark.parametrize("goes_on", ["returns", "reads", "writes"])
async def test_a_unit_that_goes_on_after_an_error_stores_nothing(running: Running, goes_on: str) -> None:
    """On every engine, although some could store a part."""
    await running.writes.run(add_users, "a")

    def add_in_any_case(db: DAL) -> None:
        add_users(db, "b")
        with contextlib.suppress(Conflict):
            add_users(db, "a")
        match goes_on:
            case "reads":
                db(db[users].id > 0).count()
            case "writes":
                add_users(db, "c")

    with pytest.raises(
        RuntimeError, match=r"went on after a statement had failed: nothing was stored\..*email"
    ):
        await running.writes.run(add_in_any_case)
    assert stored_emails(running.backend.settings) == ["a"]
    await running.writes.run(add_users, "d")
    assert stored_emails(running.backend.settings) == ["a", "d"]


async def test_a_value_that_python_refuses_costs_the_transaction_nothing(running: Running) -> None:
    def add_what_fits(db: DAL) -> None:
        for email in ("a" * 256, "b"):
            with contextlib.suppress(BadValue):
                add_users(db, email)

    await running.writes.run(add_what_fits)
    assert stored_emails(running.backend.settings) == ["b"]


# --- a transaction that is gone: the unit is run again, whatever it makes of the error


async def test_a_deadlock_that_a_unit_swallows_makes_it_run_again(server: Server, empty: Settings) -> None:
    def swallow(db: DAL, attempt: int) -> int:
        with contextlib.suppress(Exception):
            if attempt == 1:
                provoke_error(db, DEADLOCK[server.type])
        with contextlib.suppress(Exception):
            add_users(db, "b")
        return attempt

    async with started(empty) as running:
        assert await running.writes.run(Attempts(swallow)) == 2
    assert stored_emails(empty) == ["a", "b"]


async def test_a_deadlock_that_a_unit_raises_as_its_own_error_makes_it_run_again(
    server: Server, empty: Settings
) -> None:
    def wrap(db: DAL, attempt: int) -> int:
        try:
            if attempt == 1:
                provoke_error(db, DEADLOCK[server.type])
        except Exception as error:
            raise ArithmeticError("wrapped") from error
        return attempt

    async with started(empty) as running:
        assert await running.writes.run(Attempts(wrap)) == 2
    assert stored_emails(empty) == ["a"]


async def test_a_lost_connection_that_a_unit_swallows_makes_it_run_again(
    server: Server, empty: Settings
) -> None:
    def swallow(db: DAL, attempt: int) -> int:
        if attempt == 1:
            session = own_session(db)
            kill(server, session)
            wait_until(lambda: session not in sessions(server, empty))
            with contextlib.suppress(Exception):
                add_users(db, "lost")
        with contextlib.suppress(Exception):
            add_users(db, "b")
        return attempt

    async with started(empty) as running:
        assert await running.writes.run(Attempts(swallow)) == 2
    assert stored_emails(empty) == ["a", "b"]


async def test_a_unit_whose_every_attempt_fails_is_unavailable_however_much_it_swallows(
    server: Server, empty: Settings
) -> None:
    def swallow(db: DAL, attempt: int) -> None:
        with contextlib.suppress(Exception):
            provoke_error(db, DEADLOCK[server.type])
        with contextlib.suppress(Exception):
            add_users(db, "b")

    unit = Attempts(swallow)
    async with started(empty, attempts=3) as running:
        with pytest.raises(Unavailable, match="nothing was stored"):
            await running.writes.run(unit)
    assert unit.count == 3
    assert stored_emails(empty) == []


async def test_a_database_that_cannot_be_locked_is_unavailable_however_much_a_unit_swallows(
    running: Running,
) -> None:
    """SQLite's BEGIN fails while another process writes; on a server, a connection to another place."""
    settings = running.backend.settings

    def swallow(db: DAL) -> None:
        for email in "ab":
            with contextlib.suppress(Exception):
                add_users(db, email)

    async with started(settings, connect=0.2, attempts=2) as other:
        with contextlib.ExitStack() as stack:
            if settings.db_type == "sqlite":
                blocker = stack.enter_context(contextlib.closing(backend_for(settings).connect()))
                blocker.execute("BEGIN IMMEDIATE")
            else:
                stack.callback(setattr, other.backend, "hosts", other.backend.hosts)
                other.backend.hosts = Hosts([Address("127.0.0.1", 1)], writes=True)
            with pytest.raises(Unavailable, match="nothing was stored"):
                await other.writes.run(swallow)
        await other.writes.run(add_users, "c")
    assert stored_emails(settings) == ["c"]


async def test_large_values_do_not_stay_in_memory(running: Running) -> None:
    async def write(number: int) -> int:
        for _ in range(number):
            await running.writes.run(lambda db: db[values].insert(text="x" * 1_000_000))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = await write(2)
        assert await write(40) < before + 20_000_000
    finally:
        tracemalloc.stop()
