"""The read path: no slot of the pool is lost, every wait has a timeout, reads cannot write."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from dbservice import Unavailable
from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..faults import Proxy, executing, kill, kill_all, sessions, slow, until
from ..sample_service import client_of, started


async def all_slots_serve(running: Running, size: int) -> None:
    """Assert that the pool is whole: as large as it was, nobody in it, and so many reads at a time."""
    reads = running.reads
    await until(lambda: reads.in_use == 0)
    tasks = [asyncio.ensure_future(reads.fetch_raw("SELECT 1")) for _ in range(size)]
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
            reads = [asyncio.ensure_future(running.reads.fetch_raw("SELECT 1")) for _ in range(4)]
            for _ in range(chance.randrange(250)):
                await asyncio.sleep(0)
            await cancel(reads)
        await all_slots_serve(running, 2)


async def test_no_slot_is_lost_to_reads_cancelled_in_the_middle_of_a_query(migrated: Settings) -> None:
    async with started(migrated, pool=3) as running:
        for _ in range(5):
            reads = [asyncio.ensure_future(running.reads.fetch_raw(slow(migrated, 5))) for _ in range(4)]
            await asyncio.sleep(0.05)
            await cancel(reads)
        await all_slots_serve(running, 2)


async def test_no_slot_is_lost_to_timeouts(migrated: Settings) -> None:
    async with started(migrated, pool=3, statement=0.2) as running:
        for _ in range(2):
            reads = [running.reads.fetch_raw(slow(migrated, 5)) for _ in range(2)]
            answers = await asyncio.gather(*reads, return_exceptions=True)
            assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
        await all_slots_serve(running, 2)


async def test_no_slot_is_lost_to_failed_statements(migrated: Settings) -> None:
    async with started(migrated, pool=3) as running:
        for _ in range(5):
            with pytest.raises(Exception, match="nowhere"):
                await running.reads.fetch_raw("SELECT nowhere")
        await all_slots_serve(running, 2)


async def test_no_slot_is_lost_to_killed_connections(server: Server, server_settings: Settings) -> None:
    async with started(server_settings, pool=5) as running:
        await all_slots_serve(running, 3)
        assert kill_all(server, server_settings) >= 3
        await all_slots_serve(running, 3)  # and nobody has been told
        reading = asyncio.ensure_future(running.reads.fetch_raw(slow(server_settings, 0.5)))
        await until(lambda: executing(server, server_settings))
        kill_all(server, server_settings)
        assert tuple((await reading)[0]) == (1,)  # run again: a read may be
        await all_slots_serve(running, 3)


async def test_a_shutdown_message_that_arrives_before_the_connection_closes_is_a_lost_connection(
    server: Server, server_settings: Settings
) -> None:
    with Proxy(server_settings) as proxy:
        async with started(proxy.settings, pool=2) as running:
            proxy.keeps_open, before = True, proxy.closed_by_server
            assert kill_all(server, server_settings) == 1
            await until(lambda: proxy.closed_by_server > before)
            await asyncio.sleep(0.1)  # the driver has read it, too
            assert tuple((await running.reads.fetch_raw("SELECT 1"))[0]) == (1,)
            proxy.keeps_open = False


async def test_a_read_that_is_killed_each_time_is_given_up(server: Server, server_settings: Settings) -> None:
    async with started(server_settings, pool=3) as running:
        reading = asyncio.ensure_future(running.reads.fetch_raw(slow(server_settings, 600)))
        while not reading.done():
            for session in sessions(server, server_settings):
                kill(server, session)
            await asyncio.sleep(0.05)
        assert isinstance(reading.exception(), Unavailable)
        await all_slots_serve(running, 2)


async def test_no_slot_is_lost_to_a_server_that_hangs(server_settings: Settings) -> None:
    with Proxy(server_settings) as proxy:
        async with started(proxy.settings, pool=4, connect=2, acquire=0.2, statement=2) as running:
            proxy.hold()
            for _ in range(3):  # the first have connections; the others open some that never stand
                answers = await asyncio.gather(
                    *(running.reads.fetch_raw("SELECT 1") for _ in range(5)), return_exceptions=True
                )
                assert [type(answer) for answer in answers] == [Unavailable] * 5
            proxy.resume()
            await all_slots_serve(running, 2)


async def test_a_cancelled_connect_does_not_block_other_reads(server_settings: Settings) -> None:
    async with started(server_settings, pool=2, connect=600, acquire=600) as running:
        for steps in range(0, 200, 20):
            reading = asyncio.ensure_future(running.reads.fetch_raw("SELECT 1"))
            for _ in range(steps):
                await asyncio.sleep(0)
            await cancel([reading])
            async with asyncio.timeout(60):
                await running.reads.fetch_raw("SELECT 1")


# --- never more connections than DB_POOL_SIZE


async def test_the_server_never_has_more_connections_than_the_pool_size(
    server: Server, server_settings: Settings
) -> None:
    async with started(server_settings, pool=4) as running:
        most = len(sessions(server, server_settings))
        for _ in range(8):
            reads = [
                asyncio.ensure_future(running.reads.fetch_raw(slow(server_settings, 5))) for _ in range(3)
            ]
            await asyncio.sleep(0.05)
            await cancel(reads)
            most = max(most, len(sessions(server, server_settings)))
        assert 0 < most <= 4
    await until(lambda: not sessions(server, server_settings))


async def test_a_cancelled_read_is_cancelled_in_the_server(server: Server, server_settings: Settings) -> None:
    async with started(server_settings, pool=2) as running:
        reading = asyncio.ensure_future(running.reads.fetch_raw(slow(server_settings, 600)))
        await until(lambda: executing(server, server_settings))
        (session,) = sessions(server, server_settings)
        await cancel([reading])
        await until(lambda: session not in sessions(server, server_settings))


async def test_stop_waits_for_reads_and_leaves_no_connection(
    server: Server, server_settings: Settings
) -> None:
    async with asyncio.timeout(60):
        async with started(server_settings, pool=4, connect=600) as running:
            reads = [
                asyncio.ensure_future(running.reads.fetch_raw(slow(server_settings, 0.4))) for _ in range(2)
            ]
            await until(lambda: running.reads.in_use == 2)
        assert [tuple(rows[0]) for rows in await asyncio.gather(*reads)] == [(1,), (1,)]
    await until(lambda: not sessions(server, server_settings))


async def test_a_stop_does_not_fail_for_a_read_that_waits_longer_than_others_may(
    server_settings: Settings,
) -> None:
    async with asyncio.timeout(60):
        async with started(server_settings, pool=2, acquire=0.1) as running:
            reading = asyncio.ensure_future(running.reads.fetch_raw(slow(server_settings, 0.6)))
            await until(lambda: running.reads.in_use == 1)
        assert len(await reading) == 1


# --- limits


async def test_a_read_that_waits_too_long_for_a_connection_is_503_with_retry_after(
    migrated: Settings,
) -> None:
    async with started(migrated, pool=3, acquire=0.2, statement=600) as running, client_of(running) as client:
        reads = [asyncio.ensure_future(running.reads.fetch_raw(slow(migrated, 600))) for _ in range(2)]
        await until(lambda: running.reads.in_use == 2)
        async with asyncio.timeout(60):
            response = await client.get("/v1/users")
        await cancel(reads)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["detail"] == "Too many reads are waiting for a connection."
        assert (await client.get("/v1/users")).status_code == 200


async def test_a_query_that_takes_too_long_is_ended(migrated: Settings) -> None:
    async with started(migrated, pool=3, statement=0.5) as running:
        await running.reads.fetch_raw(
            "SELECT 1"
        )  # a held connection: a time-out on it is not taken for a lost one
        async with asyncio.timeout(60):
            with pytest.raises(Unavailable, match="too long"):
                await running.reads.fetch_raw(slow(migrated, 600))


async def test_the_server_has_the_statement_timeout(server: Server, server_settings: Settings) -> None:
    shown = {
        "postgresql": "SHOW statement_timeout",
        "mariadb": "SELECT CAST(@@max_statement_time * 1000 AS SIGNED)",
        "mysql": "SELECT @@max_execution_time",
    }
    async with started(server_settings, statement=7) as running:
        (row,) = await running.reads.fetch_raw(shown[server.engine])
        assert str(row[0]) in ("7s", "7000")


async def test_readers_are_served_in_the_order_they_came(migrated: Settings) -> None:
    order: list[int] = []

    async def read(*numbers: int) -> None:
        for number in numbers:
            await running.reads.fetch_raw("SELECT 1")
            order.append(number)

    async with started(migrated, pool=2) as running:
        # who comes back at once goes to the end of the line
        await asyncio.gather(read(0, 10), *(read(number) for number in range(1, 10)))
    assert order == list(range(11))


async def test_several_reads_of_one_request_do_not_wait_for_each_other(migrated: Settings) -> None:
    async with started(migrated, pool=2) as running:
        async with asyncio.timeout(60):
            rows = await asyncio.gather(*(running.reads.fetch_raw("SELECT 1") for _ in range(20)))
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
            await running.reads.fetch_raw(statement)
    (row,) = await running.reads.fetch_raw("SELECT count(*) FROM users")
    assert row[0] == 0
