"""`/metrics`."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from dbservice.service import Running
from dbservice.testing import make

from ..sample_service import client_of, started, users


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that nobody else has asked anything."""
    async with started(running.backend.settings) as fresh, client_of(fresh) as client:
        yield client


async def test_metrics_count_by_route_and_not_by_row(client: httpx.AsyncClient) -> None:
    rows = [await make(client, users) for _ in range(3)]
    for row in rows:
        await client.get(f"/v1/users/{row['id']}")
    await client.head(f"/v1/users/{rows[0]['id']}")
    await client.get("/v1/users/999999999")
    await client.get("/v1/users/x")
    for number in range(3):
        await client.get(f"/nowhere/{number}")
        await client.request(f"MADE-UP-{number}", "/v1/users")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    counts = dict(re.findall(r"^http_requests_total\{(.*)\} (.*)$", answer.text, re.M))
    assert counts == {
        'method="POST",route="/v1/users",status="201"': "3.0",
        'method="GET",route="/v1/users/{id}",status="200"': "3.0",
        'method="HEAD",route="/v1/users/{id}",status="200"': "1.0",
        'method="GET",route="/v1/users/{id}",status="404"': "1.0",
        'method="GET",route="/v1/users/{id}",status="422"': "1.0",
        'method="GET",route="none",status="404"': "3.0",
        'method="other",route="/v1/users",status="405"': "3.0",
    }
    for gauge in ("db_read_pool_size", "db_read_pool_in_use", "db_write_pool_size", "db_writes_in_flight"):
        assert re.search(rf"^{gauge} \d+\.0$", answer.text, re.M)
    assert "http_request_duration_seconds_bucket" in answer.text


async def test_metrics_say_how_the_process_is(client: httpx.AsyncClient) -> None:
    text = (await client.get("/metrics")).text
    values = dict(re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.M))
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert float(values[name]) > 0
    assert float(values['python_gc_collections_total{generation="0"}']) > 0
    assert re.search(r'^python_info\{.*implementation="CPython".*\} 1.0$', text, re.M)
    assert len(re.findall(r"^# TYPE ", text, re.M)) == len({*re.findall(r"^# TYPE (\w+)", text, re.M)})
