"""SIGTERM and SIGINT: what is in flight is finished; and clients that go away before."""

import asyncio
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from dbservice import Limits
from dbservice.settings import Settings

from ..faults import until, wait_until
from ..sample_service import stored_emails
from .raw_http import Client, gauge, request, sqlite_service
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
                while await metric(client, 'db_pool_in_use{pool="read"}'):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            answers = await asyncio.gather(*(client.get("/v1/users") for _ in range(10)))
            assert {answer.status_code for answer in answers} == {200}


def test_it_serves_until_everybody_knows_that_it_stops(tmp_path: Path) -> None:
    with sqlite_service(tmp_path, SHUTDOWN_DELAY="60") as process, httpx.Client() as client:
        url = f"http://127.0.0.1:{process.port}"
        idle = Client(process.port).send(request("GET", "/healthz"))
        assert idle.answer()
        reading = Client(process.port).send(request("GET", "/v1/slow/held/read"))
        wait_until(lambda: gauge(process.port, "http_requests_in_flight") == 2)
        process.signal(signal.SIGTERM)
        wait_until(lambda: client.get(f"{url}/readyz").status_code == 503)
        for path in ("/healthz", "/v1/users"):  # over a new connection each, since the one before was closed
            answer = client.get(f"{url}{path}")
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert client.post(f"{url}/v1/users", json={"email": "late@example.com"}).status_code == 201
        answers = idle.send(request("GET", "/v1/users")).answers()
        assert [answer.status for answer in answers] == [200]
        (tmp_path / "go").touch()
        assert [(each.status, each.headers["connection"]) for each in reading.answers()] == [(200, "close")]
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


@pytest.mark.parametrize(("how", "delay"), [(signal.SIGTERM, "0.5"), (signal.SIGINT, "60")])
def test_it_stops_after_the_delay_and_on_ctrl_c_at_once(
    tmp_path: Path, how: signal.Signals, delay: str
) -> None:
    with sqlite_service(tmp_path, SHUTDOWN_DELAY=delay) as process:
        process.signal(how)
        assert process.wait() == 0


def test_nobody_keeps_it_from_stopping(tmp_path: Path) -> None:
    with sqlite_service(tmp_path, drain=1.0) as process:
        large = request("POST", "/v1/values", b'{"text": "%s"}' % (b"x" * 900_000), "Connection: close")
        assert [answer.status for answer in Client(process.port).send(large).answers()] == [201]
        deaf = Client(process.port)
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.send(request("GET", "/v1/values/1") * 16)
        stalled = Client(process.port).send(large[:1000])
        reading = Client(process.port).send(request("GET", "/v1/slow/held/read"))
        writing = Client(process.port).send(request("POST", "/v1/slow/held/write/never@example.com"))
        wait_until(lambda: gauge(process.port, "http_requests_in_flight") >= 3)
        wait_until(lambda: gauge(process.port, "http_bytes_in_flight") > 100_000)
        process.signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait() == 0
        assert time.monotonic() - began < 15
        titles = [[each.problem["title"] for each in client.answers()] for client in (reading, writing)]
        assert titles == [["Service Unavailable"], ["Outcome unknown"]]
        for client in (deaf, stalled, reading, writing):
            client.close()
        said = "\n".join(process.said())
        assert said.count("was cut off: the service is stopping") >= 3 and "Traceback" not in said
    defaults = Settings.load({"DB_TYPE": "sqlite", "DB_NAME": str(tmp_path / "x.db")})
    assert defaults.shutdown_delay + Limits().drain <= 25  # Kubernetes kills after 30
