"""A real process of the service, while its database starts, stops, is killed, hangs and comes back."""

import asyncio
import os
import signal
from pathlib import Path

from dbservice.testing.servers import Server

from ..faults import sessions, wait_until
from ..sample_service import sample_database
from .service_process import TIGHT, Load, Process, environ_of, metric


async def test_the_database_starts_late_stops_and_is_killed_under_a_running_service(
    own_server: Server, tmp_path: Path
) -> None:
    with sample_database(own_server) as settings:
        own_server.stop()
        environ = environ_of(settings, DB_MAX_RETRIES="10000", DB_RETRY_DELAY="0.1")
        with Process(tmp_path, environ, limits=TIGHT) as process:
            wait_until(lambda: any("waiting for" in line for line in process.said()))
            await asyncio.to_thread(own_server.start)
            async with process.client() as client:
                await process.becomes(200, client)
                size = await metric(client, 'db_pool_size{pool="read"}')
                load = Load(client)
                async with load:
                    for hard in (False, True):
                        await load.goes_on(20)
                        await asyncio.to_thread(own_server.stop, hard)
                        answer = await process.becomes(503, client)
                        assert answer.json()["detail"] == "The database does not answer."
                        assert (await client.get("/healthz")).status_code == 200
                        await load.all_answered()
                        await asyncio.to_thread(own_server.start)
                        await process.becomes(200, client)
                        await load.goes_on(20)
                assert not load.strange
                assert load.refused or load.unknown
                assert await metric(client, 'db_pool_size{pool="read"}') == size == 3
                assert await metric(client, 'db_pool_in_use{pool="read"}') == 0
                assert await metric(client, 'db_pool_in_use{pool="write"}') == 0
            load.assert_kept(settings)
            assert len(sessions(own_server, settings)) <= 6 + 1  # one more asks whether it is ready
            assert not any("Traceback" in line for line in process.said())


async def test_no_request_waits_longer_than_a_limit_for_a_database_that_hangs(
    own_server: Server, tmp_path: Path
) -> None:
    with (
        sample_database(own_server) as settings,
        Process(tmp_path, environ_of(settings), limits=TIGHT) as process,
    ):
        async with process.client() as client:
            await process.becomes(200, client)
            load = Load(client)
            async with load:
                await load.goes_on(10)
                pids = _family(own_server)
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                try:
                    await process.becomes(503, client)
                    await load.all_answered()
                finally:
                    for pid in pids:
                        os.kill(pid, signal.SIGCONT)
                await process.becomes(200, client)
                await load.goes_on(10)
            assert not load.strange
            assert await metric(client, 'db_pool_in_use{pool="read"}') == 0
        load.assert_kept(settings)


def _family(server: Server) -> list[int]:
    """The processes of a server, children first."""
    assert server.pid
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [*map(int, children), server.pid]
