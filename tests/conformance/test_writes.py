"""The write path: a unit of work is stored once, completely or not at all; an acknowledged one is stored."""

import asyncio
import contextvars
import threading
import time
from typing import Any

import pytest

from dbservice import DAL, NotFound, Unavailable
from dbservice.errors import OutcomeUnknown
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..assertions import problem
from ..faults import sessions, until
from ..sample_service import add_users, client_of, started, stored_emails, users


class Blocked:
    """Units of work that wait, each on a thread of its own, until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.running = 0

    def __call__(self, db: DAL, email: str = "") -> None:
        self.running += 1
        assert self.go.wait(60)
        if email:
            add_users(db, email)


# --- whole or not at all


async def test_a_unit_that_returns_is_committed(running: Running) -> None:
    await running.writes.run(add_users, "a", "b")
    assert stored_emails(running.backend.settings) == ["a", "b"]


async def test_a_unit_that_raises_is_rolled_back(running: Running) -> None:
    def add_and_fail(db: DAL) -> None:
        add_users(db, "a")
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError, match="no"):
        await running.writes.run(add_and_fail)
    await running.writes.run(add_users, "b")
    assert stored_emails(running.backend.settings) == ["b"]


async def test_what_a_unit_returns_is_answered(running: Running) -> None:
    def double(db: DAL, number: int, *, plus: int = 0) -> int:
        return 2 * number + plus

    assert await running.writes.run(double, 3, plus=1) == 7


async def test_a_problem_that_a_unit_raises_reaches_the_caller_unchanged(running: Running) -> None:
    problem = NotFound("nothing here")

    def fail(db: DAL) -> None:
        raise problem

    with pytest.raises(NotFound) as raised:
        await running.writes.run(fail)
    assert raised.value is problem


async def test_a_coroutine_or_a_generator_is_refused_as_a_unit(running: Running) -> None:
    async def coroutine(db: DAL) -> None:
        add_users(db, "a")

    def generator(db: DAL) -> Any:
        add_users(db, "b")
        yield

    for unit in (coroutine, generator):
        with pytest.raises(TypeError, match="a unit of work is a plain function"):
            await running.writes.run(unit)
    assert stored_emails(running.backend.settings) == []


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
        add_users(db, "a")
        getattr(db, word)()

    with pytest.raises(RuntimeError, match="commits by returning"):
        await running.writes.run(add_and_say)
    assert stored_emails(running.backend.settings) == []
    await running.writes.run(add_users, "b")
    assert stored_emails(running.backend.settings) == ["b"]


async def test_pydal_works_inside_a_unit_only(running: Running) -> None:
    db = running.writes.db
    with pytest.raises(RuntimeError, match="inside a unit of work"):
        db(db[users].id > 0).select()
    assert db._adapter.held_connection() is None


# --- bounds


async def test_a_full_queue_refuses_the_oldest_with_retry_after(migrated: Settings) -> None:
    blocked = Blocked()
    async with started(migrated, queue=1) as running, client_of(running) as client:
        size = running.writes.size
        units = [asyncio.ensure_future(running.writes.run(blocked)) for _ in range(size)]
        await until(lambda: blocked.running == size)
        oldest = asyncio.ensure_future(client.post("/v1/order", json={}))
        await until(lambda: running.writes.in_flight == size + 1)
        units += [asyncio.ensure_future(running.writes.run(blocked)) for _ in range(size)]
        response = await oldest
        assert problem(response, 503)["detail"] == "Too many writes are waiting; nothing was stored."
        assert response.headers["retry-after"] == "1"
        assert running.writes.in_flight == 2 * size
        metrics = (await client.get("/metrics")).text
        assert 'db_refused_total{operation="write",reason="queue_full"} 1.0' in metrics
        blocked.go.set()
        await asyncio.gather(*units)
        assert running.writes.in_flight == 0
        assert (await client.post("/v1/order", json={})).status_code == 201


async def test_what_would_wait_too_long_is_refused_before_it_has_waited(running: Running) -> None:
    """By the duration of the units before it."""
    blocked = Blocked()

    async with started(running.backend.settings, write_queue=3.0) as hurried:
        size = hurried.writes.size

        def slow(db: DAL) -> None:
            time.sleep(0.2)

        for _ in range(3):
            await asyncio.gather(*(hurried.writes.run(slow) for _ in range(size)))
        units = [asyncio.ensure_future(hurried.writes.run(blocked)) for _ in range(90 * size)]
        await asyncio.wait(units, return_when=asyncio.FIRST_COMPLETED)
        refused = [str(each.exception()) for each in units if each.done()]
        assert set(refused) == {"Too many writes are waiting; nothing was stored."}
        blocked.go.set()
        await asyncio.gather(*units, return_exceptions=True)


async def test_a_unit_that_waits_too_long_for_its_turn_is_never_run(running: Running) -> None:
    blocked = Blocked()
    async with started(running.backend.settings, write_queue=0.2) as hurried:
        begun = [asyncio.ensure_future(hurried.writes.run(blocked)) for _ in range(hurried.writes.size)]
        await until(lambda: blocked.running == hurried.writes.size)
        with pytest.raises(Unavailable, match="nothing was stored"):
            await hurried.writes.run(add_users, "a")
        blocked.go.set()
        await asyncio.gather(*begun)
        assert hurried.writes.in_flight == 0
    assert stored_emails(running.backend.settings) == []


async def test_waiting_takes_nothing_from_the_time_of_a_unit(running: Running) -> None:
    """It may wait for half a second, then run for another: neither is longer than its own limit."""
    async with started(running.backend.settings, write=1.5, write_queue=60.0) as hurried:
        size = hurried.writes.size

        def slow(db: DAL, email: str) -> None:
            time.sleep(0.7)
            add_users(db, email)

        emails = [f"a{n}" for n in range(3 * size)]
        await asyncio.gather(*(hurried.writes.run(slow, email) for email in emails))
    assert stored_emails(running.backend.settings) == sorted(emails)


async def test_under_overload_the_newest_are_served(running: Running) -> None:
    """Their clients still wait, those of the oldest have given up."""
    served: list[int] = []
    blocked = Blocked()
    async with started(running.backend.settings, queue=4) as busy:
        size = busy.writes.size

        def serve(db: DAL, number: int) -> None:
            served.append(number)

        begun = [asyncio.ensure_future(busy.writes.run(blocked)) for _ in range(size)]
        await until(lambda: blocked.running == size)
        units = [asyncio.ensure_future(busy.writes.run(serve, number)) for number in range(8 * size)]
        await asyncio.wait(units[: 4 * size])
        blocked.go.set()
        await asyncio.gather(*begun, *units, return_exceptions=True)
    assert sorted(served) == list(range(4 * size, 8 * size))
    assert served[0] > served[-1]


async def test_a_unit_that_takes_too_long_is_not_committed_afterwards(running: Running) -> None:
    blocked = Blocked()
    async with started(running.backend.settings, write=1.5) as hurried:
        with pytest.raises(OutcomeUnknown):
            await hurried.writes.run(blocked, "a")
        assert hurried.writes.in_flight == 1  # its thread is still taken
        blocked.go.set()
        await until(lambda: hurried.writes.in_flight == 0)
    assert stored_emails(running.backend.settings) == []


async def test_a_cancelled_unit_that_waits_is_never_run_one_that_runs_is_finished(running: Running) -> None:
    blocked = Blocked()
    count = running.writes.size
    begun = [asyncio.ensure_future(running.writes.run(blocked, f"begun {n}")) for n in range(count)]
    await until(lambda: blocked.running == count)
    waiting = asyncio.ensure_future(running.writes.run(add_users, "waiting"))
    await asyncio.sleep(0)
    for task in [*begun, waiting]:
        task.cancel()
    await asyncio.wait([*begun, waiting])
    assert all(task.cancelled() for task in [*begun, waiting])
    blocked.go.set()
    await until(lambda: running.writes.in_flight == 0)
    await running.writes.run(add_users, "later")
    assert stored_emails(running.backend.settings) == [*(f"begun {n}" for n in range(count)), "later"]


async def test_stop_finishes_what_is_in_flight(running: Running) -> None:
    blocked = Blocked()
    async with started(running.backend.settings) as stopping:
        count = 3 * stopping.writes.size
        units = [asyncio.ensure_future(stopping.writes.run(blocked, f"a{n}")) for n in range(count)]
        await until(lambda: blocked.running == stopping.writes.size)
        asyncio.get_running_loop().call_later(0.1, blocked.go.set)
    assert stored_emails(running.backend.settings) == [f"a{n}" for n in range(count)]
    await asyncio.gather(*units)
    with pytest.raises(Unavailable):
        async with asyncio.timeout(60):
            await stopping.writes.run(add_users, "too late")


async def test_threads_are_bounded(running: Running) -> None:
    threads: set[int] = set()

    def note_thread(db: DAL) -> None:
        threads.add(threading.get_ident())
        db(db[users].id > 0).count()

    await asyncio.gather(*(running.writes.run(note_thread) for _ in range(60)))
    assert len(threads) <= running.backend.writers == running.writes.size
    assert threading.get_ident() not in threads


async def test_connections_are_bounded(server: Server, empty: Settings) -> None:
    most = 0
    async with started(empty, pool=5) as running:
        for _ in range(5):
            work: list[Any] = [running.reads.fetch_raw("SELECT 1") for _ in range(20)]
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
