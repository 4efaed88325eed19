"""Connections that the server ends while they open: accepted and reset, closed, or cut in the middle of the handshake."""

import asyncio
import time
from typing import Any

import pytest

from dbservice.backends.interface import WORTH_WAITING_FOR
from dbservice.settings import Settings

from ..faults import Proxy
from ..sample_service import client_of, started

BREAKS = {
    "reset": (0, True),
    "closed": (0, False),
    "reset in the handshake": (20, True),
    "closed in the handshake": (20, False),
}


@pytest.fixture
def anyio_backend() -> Any:
    """The loop of `serve`, whose transports forget their socket when they are closed."""
    return "asyncio", {"use_uvloop": True}


@pytest.mark.parametrize("how", BREAKS)
async def test_a_connection_that_breaks_while_it_opens_is_answered_503(
    server_settings: Settings, how: str
) -> None:
    after, reset = BREAKS[how]
    with Proxy(server_settings) as proxy:
        async with started(proxy.settings, pool=20) as running, client_of(running) as client:
            proxy.break_new(after=after, reset=reset)
            proxy.cut()
            slowing = asyncio.create_task(
                slow_down()
            )  # the loop hears of the connection and of its end at once
            reads = [client.get("/v1/users") for _ in range(60)]
            writes = [client.post("/v1/users", json={"email": "a@b.example"}) for _ in range(4)]
            answers = await asyncio.gather(*reads, *writes)
            slowing.cancel()
            assert {(each.status_code, each.json()["title"]) for each in answers} == {(503, "Unavailable")}
            for _ in range(3):
                error = await asyncio.to_thread(connect_error, running.backend)
                assert running.backend.classify_error(error) in WORTH_WAITING_FOR
            proxy.resume()
            assert (await client.get("/v1/users")).status_code == 200
            assert (await client.post("/v1/order", json={})).status_code == 201


async def slow_down() -> None:
    while True:
        time.sleep(0.005)  # noqa: ASYNC251
        await asyncio.sleep(0)


def connect_error(backend: Any) -> Exception:
    """Why a start cannot connect."""
    with pytest.raises(Exception) as refusal:
        backend.connect()
    error: Exception = backend.connect_error(refusal.value)
    return error
