"""Traces: the spans of a request and of its statements, and that neither they nor logs nor metrics hold a value."""

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fastapi import APIRouter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dbservice import DAL, Writes, logs
from dbservice.service import Running, Service
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..sample_service import NOWHERE, add_users, client_of, sample_service, started, users
from .test_retries import provoke_error

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MARKERS = ("plantedpath", "plantedbody", "plantedsecret", "plantedquery", "plantedheader")

Tree = tuple[str, list[Any]]


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Gets what services send that start now."""
    memory = InMemorySpanExporter()
    monkeypatch.setattr("dbservice.tracing.tracing.new_exporter", lambda _: memory)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    yield memory


@pytest.fixture
def json_logs(all_logs: pytest.LogCaptureFixture) -> None:
    """All loggers write JSON to stderr."""
    environ = {"DB_TYPE": "sqlite", "DB_NAME": "x.db", "LOG_FORMAT": "json", "LOG_LEVEL": "debug"}
    logs.configure(Settings.load(environ))
    for name in ("httpx", "httpcore"):  # the client's, which logs its URLs
        logging.getLogger(name).setLevel(logging.ERROR)


def service_that_fails() -> Service:
    """The sample service, with routes that fail."""
    router = APIRouter()

    @router.get("/fails/{word}")
    async def fails(word: str) -> None:
        raise ValueError(f"refused {word}")

    @router.post("/fails")
    async def unit_fails(new: dict[str, str], writes: Writes) -> None:
        await writes.run(fail_after_insert, new)

    def fail_after_insert(db: DAL, new: dict[str, str]) -> None:
        db[users].insert_row({**new, "email": f"2-{new['email']}"})
        raise ValueError(f"refused {new['password']}")

    service = sample_service(NOWHERE)
    service.routers.append(router)
    return service


def trees(spans: Sequence[ReadableSpan]) -> list[Tree]:
    """The spans of each trace, by name, in the order of their start."""
    held = {each.context.span_id for each in spans if each.context}

    def below(parent: int | None) -> list[Tree]:
        found = [
            each
            for each in spans
            if (each.parent.span_id if each.parent and each.parent.span_id in held else None) == parent
        ]
        found.sort(key=lambda each: each.start_time or 0)
        return [(each.name, below(each.context.span_id if each.context else 0)) for each in found]

    return below(None)


async def test_the_spans_of_requests_and_of_their_statements(
    running: Running, exporter: InMemorySpanExporter
) -> None:
    backend = running.backend
    begin: list[Tree] = [] if backend.pipeline_begin else [(backend.begin.split()[0], [])]
    async with started(backend.settings) as traced, client_of(traced) as client:
        created = await client.post(
            "/v1/users",
            json={"email": "traced", "note": "a 'quoted' note"},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
        )
        again = await client.post("/v1/users", json={"email": "traced"})
        user_id = created.json()["id"]
        await client.get(f"/v1/users/{user_id}")
        await client.get("/v1/users", params={"limit": 2})
        await client.get("/v1/users/x")
        await client.get("/healthz")
        await client.get("/readyz")
        answers = [created.status_code, again.status_code]
        assert answers == [201, 409]
        await traced.writes.run(add_users)  # outside of a request, nothing is recorded
    spans = exporter.get_finished_spans()
    insert: Tree = ("INSERT users", [])
    assert trees(spans) == [
        ("POST /v1/users", [("unit insert_row", [*begin, insert, ("COMMIT", [])])]),
        ("POST /v1/users", [("unit insert_row", [*begin, insert, ("ROLLBACK", [])])]),
        ("GET /v1/users/{id}", [("SELECT users", [])]),
        ("GET /v1/users", [("SELECT users", [])]),
        ("GET /v1/users/{id}", []),
    ]
    # the first belongs to the trace of the client, on the threads too
    (root,) = [each for each in spans if each.parent and f"{each.parent.span_id:016x}" == PARENT]
    ids = {f"{each.context.trace_id:032x}" for each in spans if each.context}
    assert len(ids) == 5 and root.context and f"{root.context.trace_id:032x}" == TRACE
    assert root.attributes and root.attributes["http.response.status_code"] == 201
    inserts = [dict(each.attributes or {}) for each in spans if each.name == "INSERT users"]
    assert [each.get("error.type") for each in inserts] == [None, "duplicate"]
    assert inserts[1]["db.response.status_code"]
    assert {each["db.collection.name"] for each in inserts} == {"users"}
    assert str(inserts[0]["db.query.text"]).startswith("INSERT INTO") and "?," in str(
        inserts[0]["db.query.text"]
    )
    systems = {
        each.attributes["db.system.name"]
        for each in spans
        if each.attributes and "db.system.name" in each.attributes
    }
    assert systems == {backend.system}
    assert spans[0].resource.attributes["service.name"] == "sample"


async def test_no_value_is_in_a_span_a_log_or_a_metric(
    running: Running,
    exporter: InMemorySpanExporter,
    json_logs: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    headers = {
        "authorization": "Bearer plantedheader",
        "cookie": "session=plantedheader",
        "user-agent": "plantedheader",
        "x-request-id": "plantedheader !",  # no id
        "baggage": "key=plantedheader",
        "traceparent": f"00-{TRACE}-{PARENT}-01",
    }
    new = {"email": "plantedbody", "password": "plantedsecret", "note": "plantedbody"}
    settings = running.backend.settings
    async with service_that_fails().running(settings) as traced, client_of(traced) as client:
        client.headers.update(headers)
        answers = [
            await client.post("/v1/users", json=new),
            await client.post("/v1/users", json=new),
            await client.post("/v1/users", json={**new, "balance": "plantedbody"}),
            await client.get("/v1/users", params={"after": "plantedquery"}),
            await client.get("/v1/users/plantedpath"),
            await client.get("/fails/plantedpath"),
            await client.post("/fails", json=new),
            await client.get("/plantedpath"),
        ]
        metrics = await client.get("/metrics")
    assert [each.status_code for each in answers] == [201, 409, 422, 422, 422, 500, 500, 404]
    spans = exporter.get_finished_spans()
    assert len([each for each in spans if each.name == "unit insert_row"]) == 2
    log = capsys.readouterr().err
    texts = {
        "spans": "\n".join(each.to_json() for each in spans),
        "log": log,
        "metrics": metrics.text,
    }
    for where, text in texts.items():
        assert not [each for each in MARKERS if each in text], where
        password = settings.db_pass.get_secret_value()
        assert not password or password not in text, where
    # each line that a request has caused says which, and in which trace
    lines = [json.loads(line) for line in log.splitlines()]
    failures = [each for each in lines if each["level"] == "error"]
    assert len(failures) == 2 and {each["trace_id"] for each in failures} == {TRACE}
    assert {each["request_id"] for each in failures} == {
        each.headers["x-request-id"] for each in answers[5:7]
    }
    roots = [dict(each.attributes or {}) for each in spans if each.name.endswith("/fails/{word}")]
    assert [(each["error.type"], each["http.response.status_code"]) for each in roots] == [
        ("ValueError", 500)
    ]


async def test_a_retry_is_seen(
    server: Server,
    empty: Settings,
    exporter: InMemorySpanExporter,
    json_logs: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tries: list[int] = []

    def twice(db: DAL) -> None:
        tries.append(1)
        add_users(db, "a")
        if len(tries) == 1:
            provoke_error(db, "40P01" if db._backend.name == "postgresql" else "1213")

    router = APIRouter()

    @router.post("/twice")
    async def run_twice(writes: Writes) -> None:
        await writes.run(twice)

    service = sample_service(NOWHERE)
    service.routers.append(router)
    async with service.running(empty) as traced, client_of(traced) as client:
        answer = await client.post("/twice")
        metrics = (await client.get("/metrics")).text
    assert answer.status_code == 200 and len(tries) == 2
    assert 'db_retries_total{operation="write",reason="deadlock"} 1.0' in metrics
    (unit,) = [each for each in exporter.get_finished_spans() if each.name == "unit twice"]
    events = [(each.name, dict(each.attributes or {})) for each in unit.events]
    assert events == [("started", {}), ("retry", {"error.type": "deadlock"})]
    # written by a thread
    line = next(
        each
        for each in map(json.loads, capsys.readouterr().err.splitlines())
        if "retrying" in each["message"]
    )
    assert line["request_id"] == answer.headers["x-request-id"]
    assert unit.context and line["trace_id"] == f"{unit.context.trace_id:032x}"


async def test_what_is_not_sampled_costs_no_span(
    running: Running, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    async with started(running.backend.settings) as traced, client_of(traced) as client:
        await asyncio.gather(*(client.get("/v1/users") for _ in range(3)))
        await client.post("/v1/users", json={"email": "not sampled"})
        await client.get("/v1/users", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert [name for name, _ in trees(exporter.get_finished_spans())] == ["GET /v1/users"]
