"""A client that hangs up: what it reads is ended and its connection free, what it writes goes on."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn

from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..faults import locked_users, until
from ..sample_service import started


@asynccontextmanager
async def listening(running: Running) -> AsyncIterator[int]:
    """uvicorn with the running service; its port."""
    config = uvicorn.Config(running.service.app, port=0, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


async def test_a_client_that_hangs_up_frees_its_connection(server: Server, server_settings: Settings) -> None:
    async with (
        started(server_settings, pool=4, statement=600.0, acquire=600.0) as running,
        listening(running) as port,
        client_at(port) as client,
    ):
        with locked_users(server, server_settings):
            gone = [hang(port, "/v1/users") for _ in range(2 * running.reads.size)]
            await until(lambda: running.reads.in_use == running.reads.size)
            for each in gone:
                each.close()
            await until(lambda: running.reads.in_use == 0)
            assert (await client.get("/v1/order")).status_code == 200
        assert (await client.get("/v1/users")).status_code == 200
        metrics = (await client.get("/metrics")).text
        assert 'http_requests_total{method="GET",route="/v1/users",status="499"}' in metrics


async def test_a_write_goes_on_when_its_client_hangs_up(server: Server, server_settings: Settings) -> None:
    async with (
        started(server_settings, pool=4, write=600.0, statement=600.0) as running,
        listening(running) as port,
        client_at(port) as client,
    ):
        with locked_users(server, server_settings):
            body = b'{"email": "gone@example.com"}'
            head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            gone = [hang(port, "/v1/users", "POST", head + body)]
            await until(lambda: running.writes.in_flight == 1)
            gone.append(hang(port, "/v1/users"))
            await until(lambda: running.reads.in_use == 1)
            for each in gone:
                each.close()
            await until(lambda: running.reads.in_use == 0)
            assert running.writes.in_flight == 1
        await until(lambda: running.writes.in_flight == 0)
        found = (await client.get("/v1/users?limit=200")).json()["items"]
        assert [row["email"] for row in found] == ["gone@example.com"]


def client_at(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)


def hang(port: int, path: str, method: str = "GET", rest: bytes = b"\r\n") -> socket.socket:
    """A client that has asked and does not read."""
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n".encode() + rest)
    return client
