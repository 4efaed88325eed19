"""A service that sends traces to a collector, which takes them or hangs."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from .raw_http import sqlite_service

MARKERS = ("planted-body", "planted-secret", "planted-query", "planted-header")
HEADERS = {
    "authorization": "Bearer planted-header",
    "user-agent": "planted-header",
    "x-request-id": "from-the-proxy",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
NEW = {"email": "planted-body@example.com", "password": "planted-secret"}


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """The URL of a collector, and what it has got."""
    taken: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces" and self.headers["api-key"] == "a key"
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", taken
        server.shutdown()


async def test_a_collector_gets_all_spans_and_the_log_has_their_ids(tmp_path: Path) -> None:
    with collector() as (url, taken):
        environ: dict[str, Any] = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20key",
            "OTEL_SERVICE_NAME": "named",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "info",
        }
        with sqlite_service(tmp_path, **environ) as process:
            async with process.client() as client:
                path = "/v1/users?planted-query=planted-query"
                answer = await client.post(path, json=NEW, headers=HEADERS)
                assert answer.status_code == 201 and answer.headers["x-request-id"] == "from-the-proxy"
            process.signal(signal.SIGTERM)  # at once: what waits to be sent is sent
            assert process.wait() == 0
            lines = [json.loads(line) for line in process.said()]
        (resource,) = [each for request in taken for each in request.resource_spans]
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (about["service.name"], about["service.version"]) == ("named", "1")
    assert about["deployment.environment.name"] == "test"
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    assert {span.name for span in spans} == {
        "POST /v1/users",
        "unit insert_row",
        "BEGIN",
        "INSERT users",
        "COMMIT",
    }
    assert {span.trace_id.hex() for span in spans} == {"0af7651916cd43dd8448eb211c80319c"}
    (access,) = [each for each in lines if each["logger"] == "uvicorn.access" and "POST" in each["message"]]
    (root,) = [span for span in spans if span.name == "POST /v1/users"]
    assert (access["request_id"], access["trace_id"], access["span_id"]) == (
        "from-the-proxy",
        "0af7651916cd43dd8448eb211c80319c",
        root.span_id.hex(),
    )
    assert not any("request_id" in each for each in lines if each["logger"] == "dbservice.cli")
    for text in (str(taken), json.dumps(lines)):
        assert not [each for each in MARKERS if each in text]


async def test_a_collector_that_hangs_holds_up_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs:  # takes connections, and never answers
        environ: dict[str, Any] = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{hangs.getsockname()[1]}",
            "OTEL_BSP_SCHEDULE_DELAY": "1",
            "OTEL_BSP_MAX_QUEUE_SIZE": "1",
        }
        with sqlite_service(tmp_path, traces=0.2, **environ) as process:
            async with process.client() as client:
                started = time.monotonic()
                for _ in range(20):
                    assert (await client.get("/v1/users")).status_code == 200
                metrics = (await client.get("/metrics")).text
                process.signal(signal.SIGTERM)
            assert process.wait() == 0
            assert time.monotonic() - started < 10  # the exporter's own time limit
            assert "spans lost" in process.said()[-1] and len(process.said()) == 1
    dropped = next(
        line for line in metrics.splitlines() if line.startswith('trace_spans_total{outcome="dropped"}')
    )
    assert float(dropped.split()[1]) > 0
