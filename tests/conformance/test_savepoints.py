"""A savepoint rolls its block back when it raises, and the unit of work continues, unless the whole transaction was
rolled back."""

import contextlib

import pytest

from dbservice import DAL, Conflict
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..faults import kill, sessions, wait_until
from ..sample_service import add_users, order, started, stored_emails, users
from .test_retries import own_session, provoke_error
from .test_units import DEADLOCK, Attempts


async def test_a_savepoint_lets_a_unit_go_on(running: Running) -> None:
    await running.writes.run(add_users, "a")

    def add_those_that_are_new(db: DAL, *emails: str) -> list[str]:
        known = []
        for email in emails:
            try:
                with db.savepoint():
                    db[users].insert_row({"email": email})
            except Conflict:
                known.append(email)
        return known

    assert await running.writes.run(add_those_that_are_new, "a", "b", "a", "b", "c") == ["a", "a", "b"]
    assert stored_emails(running.backend.settings) == ["a", "b", "c"]


async def test_a_savepoint_undoes_its_block_and_nothing_else(running: Running) -> None:
    def some(db: DAL) -> list[str]:
        with db.savepoint():  # the first statement of the unit
            add_users(db, "kept 1")
        add_users(db, "kept 2")
        with contextlib.suppress(ArithmeticError), db.savepoint():
            add_users(db, "undone")
            db(db[users].email == "kept 1").update(note="undone")
            raise ArithmeticError("not the database's")
        add_users(db, "kept 3")
        return [row.note for row in db(db[users].note == "undone").select()]

    assert await running.writes.run(some) == []
    assert stored_emails(running.backend.settings) == ["kept 1", "kept 2", "kept 3"]


async def test_savepoints_nest(running: Running) -> None:
    def nested(db: DAL) -> None:
        add_users(db, "1")
        with db.savepoint():
            add_users(db, "2")
            with contextlib.suppress(Conflict), db.savepoint():
                add_users(db, "inner, undone", "1")
            with db.savepoint():
                add_users(db, "3")
        with contextlib.suppress(Conflict), db.savepoint():
            with db.savepoint():
                add_users(db, "released, undone with the outer one")
            with db.savepoint():
                add_users(db, "2")
        add_users(db, "4")

    await running.writes.run(nested)
    assert stored_emails(running.backend.settings) == ["1", "2", "3", "4"]


async def test_a_unit_that_raises_undoes_what_its_savepoints_released(running: Running) -> None:
    def release_and_fail(db: DAL) -> None:
        with db.savepoint():
            add_users(db, "a")
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError):
        await running.writes.run(release_and_fail)
    assert stored_emails(running.backend.settings) == []


async def test_an_error_that_is_swallowed_inside_a_savepoint_undoes_its_block(running: Running) -> None:
    def swallow_inside(db: DAL) -> None:
        add_users(db, "a")
        with pytest.raises(RuntimeError, match="went on after a statement had failed"), db.savepoint():
            add_users(db, "b")
            with contextlib.suppress(Conflict):
                add_users(db, "a")
        add_users(db, "c")

    await running.writes.run(swallow_inside)
    assert stored_emails(running.backend.settings) == ["a", "c"]


async def test_a_savepoint_of_a_unit_that_was_refused_elsewhere_is_refused_too(running: Running) -> None:
    """What failed outside is not undone by what begins later."""

    def fail_then_enter(db: DAL) -> None:
        add_users(db, "a")
        with contextlib.suppress(Conflict):
            add_users(db, "a")
        with contextlib.suppress(RuntimeError), db.savepoint():
            add_users(db, "b")

    with pytest.raises(RuntimeError, match="went on after a statement had failed"):
        await running.writes.run(fail_then_enter)
    assert stored_emails(running.backend.settings) == []


async def test_a_savepoint_needs_a_unit(running: Running) -> None:
    with pytest.raises(RuntimeError, match="inside a unit of work"), running.writes.db.savepoint():
        pass


async def test_a_statement_of_a_developers_mistake_is_undone_by_a_savepoint_too(running: Running) -> None:
    def try_it(db: DAL) -> int:
        with pytest.raises(Exception, match="nowhere"), db.savepoint():
            db.executesql("SELECT nowhere")
        return int(db[order].insert_row({"group": "a"})["id"])

    assert await running.writes.run(try_it)


async def test_an_error_outside_a_savepoint_names_it(running: Running) -> None:
    def swallow_outside(db: DAL) -> None:
        add_users(db, "a")
        with contextlib.suppress(Conflict):
            add_users(db, "a")

    with pytest.raises(RuntimeError, match=r"nothing was stored.*`with db\.savepoint\(\):`"):
        await running.writes.run(swallow_outside)


# --- a transaction that is gone


async def test_a_savepoint_does_not_hide_a_deadlock(server: Server, empty: Settings) -> None:
    def hide(db: DAL, attempt: int) -> int:
        with contextlib.suppress(Exception), db.savepoint():
            if attempt == 1:
                provoke_error(db, DEADLOCK[server.type])
        return attempt

    async with started(empty) as running:
        assert await running.writes.run(Attempts(hide)) == 2
    assert stored_emails(empty) == ["a"]


async def test_a_savepoint_does_not_hide_a_lost_connection(server: Server, empty: Settings) -> None:
    def hide(db: DAL, attempt: int) -> int:
        if attempt == 1:
            session = own_session(db)
            kill(server, session)
            wait_until(lambda: session not in sessions(server, empty))
        with contextlib.suppress(Exception), db.savepoint():
            add_users(db, "b")
        return attempt

    async with started(empty) as running:
        assert await running.writes.run(Attempts(hide)) == 2
    assert stored_emails(empty) == ["a", "b"]
