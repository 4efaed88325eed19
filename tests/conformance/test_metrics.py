"""`/metrics`."""

import re
import subprocess
from collections.abc import AsyncIterator

import httpx
import pytest

from dbservice.service import Running
from dbservice.testing import make

from ..programs import needed_program
from ..sample_service import client_of, started, users


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that nobody else has asked anything."""
    async with started(running.backend.settings) as fresh, client_of(fresh) as client:
        yield client


def samples(text: str) -> dict[str, float]:
    """The values of a scrape, by the names and labels of their series."""
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.M)}


def promtool_says(text: str) -> str:
    """What promtool finds wrong with a scrape."""
    command = [needed_program("promtool", "prometheus"), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    return done.stdout + done.stderr


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
    values = samples(answer.text)
    seconds = 'http_request_duration_seconds_{}{{{}method="GET",route="/v1/users/{{id}}"}}'
    assert values[seconds.format("count", "")] == 5 and 0 < values[seconds.format("sum", "")] < 60
    buckets = re.findall(r'_bucket\{le="(.+?)",method="POST",route="/v1/users"\} (\S+)$', answer.text, re.M)
    assert buckets[-1] == ("+Inf", "3.0")
    assert sorted(buckets, key=lambda each: float(each[0])) == buckets
    assert sorted(buckets, key=lambda each: float(each[1])) == buckets


async def test_metrics_say_how_the_database_and_its_pools_are(running: Running) -> None:
    async with started(running.backend.settings, pool=6) as fresh, client_of(fresh) as client:
        row = await make(client, users)
        for _ in range(4):
            await client.get(f"/v1/users/{row['id']}")
        values = samples((await client.get("/metrics")).text)
        sizes = [values[f'db_pool_size{{pool="{pool}"}}'] for pool in ("read", "write")]
        assert sizes == [fresh.reads.size, fresh.writes.size]
        for name in ("db_pool_in_use", "db_pool_waiting"):
            assert [values[f'{name}{{pool="{pool}"}}'] for pool in ("read", "write")] == [0, 0]
        counts = [
            values[f'db_operation_duration_seconds_count{{operation="{operation}"}}']
            for operation in ("read", "write")
        ]
        assert counts == [4, 1]
        assert values['dbservice_info{service="sample",version="1"}'] == 1
        assert values['db_schema_info{revision=""}'] == 1
        assert values["db_up"] == values["service_ready"] == 1
        # counters that have not counted yet are there: an increase from nothing to 1 is none
        assert values['db_outcome_unknown_total{reason="connection_lost"}'] == 0
        assert values['db_refused_total{operation="read",reason="pool_timeout"}'] == 0
        assert values['db_retries_total{operation="write",reason="deadlock"}'] == 0


async def test_promtool_finds_nothing_to_say(client: httpx.AsyncClient) -> None:
    await make(client, users)
    assert promtool_says((await client.get("/metrics")).text) == ""


async def test_metrics_say_how_the_process_is(client: httpx.AsyncClient) -> None:
    text = (await client.get("/metrics")).text
    values = samples(text)
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert float(values[name]) > 0
    assert float(values['python_gc_collections_total{generation="0"}']) > 0
    assert re.search(r'^python_info\{.*implementation="CPython".*\} 1.0$', text, re.M)
    assert len(re.findall(r"^# TYPE ", text, re.M)) == len({*re.findall(r"^# TYPE (\w+)", text, re.M)})
