"""Bodies of a megabyte that hold as many values as fit in: the others are answered meanwhile."""

import asyncio
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from dbservice import Limits
from dbservice.settings import Settings
from dbservice.testing import servers

from ..sample_service import create_tables
from .service_process import Process, environ_of

MOST = Limits().body_values
MEGABYTE = Limits().body


def padded(body: bytes) -> bytes:
    return body + b" " * (MEGABYTE - len(body))


BODIES = {
    "objects": (b'{"json": [' + b'{"a":1e5},' * (MOST // 2 - 10) + b"{}]}", 201),
    "unknown fields": (b"{" + b",".join(b'"a%d":0' % n for n in range(MOST - 10)) + b"}", 422),
    "too many": (b'{"json": [' + b"[]," * (MEGABYTE // 3 - 10) + b"[]]}", 422),
}


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("kind", BODIES)
async def test_health_is_answered_while_large_bodies_are_read(
    private_database: servers.Database, tmp_path: Path, kind: str
) -> None:
    settings = Settings.load({**private_database.environ(), "DB_MAX_RETRIES": "0"})
    create_tables(settings)
    body, status = BODIES[kind]
    headers = {"content-type": "application/json"}
    with ExitStack() as closed, Process(tmp_path, environ_of(settings)) as process:
        async with process.client() as client:
            await process.becomes(200, client)
            probe = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROBE, str(process.port)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            closed.callback(stop, probe)
            posts = [client.post("/v1/values", content=padded(body), headers=headers) for _ in range(16)]
            assert {answer.status_code for answer in await asyncio.gather(*posts)} == {status}
            slowest = float((await probe.communicate(b""))[0])
    assert slowest < 2  # some tenths, and five seconds where bodies are read in the event loop


def stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


PROBE = """
import http.client, select, sys, time
slowest = 0
while not select.select([sys.stdin], [], [], 0.01)[0]:
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    slowest = max(slowest, time.monotonic() - started)
print(slowest)
"""
"""Asks whether the service lives, in a process of its own, until its input ends; prints the longest time that it took."""
