"""SIGTERM and SIGINT: what is in flight is finished; and clients that go away before."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from dbservice.settings import Settings

from ..faults import until
from ..sample_service import stored_emails
from .service_process import Load, Process, environ_of, metric


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
async def test_it_finishes_what_is_in_flight_and_ends(
    migrated: Settings, tmp_path: Path, how: signal.Signals
) -> None:
    environ = environ_of(migrated)
    writes = (
        1 if migrated.db_type == "sqlite" else 2
    )  # the threads that write: what waits behind them is not begun
    with Process(tmp_path, environ) as process:
        async with process.client() as client:
            await process.becomes(200, client)
            load = Load(client)
            async with load:
                await load.goes_on(5)
                writing = [
                    asyncio.ensure_future(client.post(f"/v1/slow/held/write/{n}@{how.name}.example"))
                    for n in range(writes)
                ]
                reading = asyncio.ensure_future(client.get("/v1/slow/held/read"))
                begun = tmp_path / "begun"
                await until(lambda: begun.exists() and begun.stat().st_size == writes + 1)
                process.signal(how)
                await until(lambda: not process.listens())
                (tmp_path / "go").touch()
                answers = await asyncio.gather(*writing, reading)
                assert await asyncio.to_thread(process.wait) == 0
            assert [answer.status_code for answer in answers] == [*[201] * writes, 200]
            assert not load.strange
    load.assert_kept(migrated)
    assert {f"{n}@{how.name}.example" for n in range(writes)} <= set(stored_emails(migrated))
    assert process.said() == []


async def test_clients_that_disconnect_leave_no_connection_in_use(migrated: Settings, tmp_path: Path) -> None:
    with Process(tmp_path, environ_of(migrated), limits={"statement": 2.0}) as process:
        async with process.client() as client:
            await process.becomes(200, client)
            for path in ("/v1/slow/read", "/v1/users") * 15:
                with socket.create_connection(("127.0.0.1", process.port)) as gone:
                    gone.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = await process.becomes(200, client)
            assert answer.json()["status"] == "ready"
            async with asyncio.timeout(60):
                while await metric(client, "db_read_pool_in_use"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            answers = await asyncio.gather(*(client.get("/v1/users") for _ in range(10)))
            assert {answer.status_code for answer in answers} == {200}
