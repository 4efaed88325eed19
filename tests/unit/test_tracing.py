"""Whether traces are sent, and that a collector that is away or slow costs spans and nothing else."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from dbservice.errors import StartupError
from dbservice.tracing.batches import Batches
from dbservice.tracing.environment import TraceSettings
from dbservice.tracing.statements import described

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "a", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_TRACES_EXPORTER": "none", **ENDPOINT},
        {"OTEL_SDK_DISABLED": "true", **ENDPOINT},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **ENDPOINT},
    ],
)
def test_no_traces_unless_they_are_asked_for(environ: dict[str, str]) -> None:
    assert TraceSettings.load(environ) is None


def test_the_variables_of_traces() -> None:
    assert TraceSettings.load(ENDPOINT) == ("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp", 2048, 512, 5.0)
    environ = {
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_BSP_MAX_QUEUE_SIZE": "7",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    assert TraceSettings.load(environ) == ("OTEL_TRACES_EXPORTER", "console", 7, 512, 0.1)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER holds 'zipkin': allowed is otlp, console, none",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **ENDPOINT},
            "OTEL_EXPORTER_OTLP_PROTOCOL holds 'grpc': allowed is http/protobuf",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "user:secret@collector"},
            "OTEL_EXPORTER_OTLP_ENDPOINT holds a value not shown: allowed is a URL, such as http://host:4318",
        ),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "0", **ENDPOINT},
            "OTEL_BSP_MAX_QUEUE_SIZE holds '0': allowed is a whole number of at least 1",
        ),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(StartupError) as raised:
        TraceSettings.load(environ)
    assert str(raised.value) == sentence


def test_without_traces_nothing_of_opentelemetry_is_imported() -> None:
    code = """
import sys
import dbservice
from dbservice import cli, tracing
assert tracing.start(None, None, {}) is None
found = [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf", "requests"))]
assert not found, found
for name in ("opentelemetry.sdk", "opentelemetry.exporter"):
    sys.modules[name] = None
try:
    tracing.start(None, None, {"OTEL_TRACES_EXPORTER": "otlp"})
except Exception as error:
    print(error)
"""
    environ = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert not done.stderr and done.stdout.startswith(
        "OTEL_TRACES_EXPORTER asks for traces, but the packages of OpenTelemetry are not installed: in pyproject.toml, add"
    )


class Slow(SpanExporter):
    """A collector that answers when it is told to."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.go, self.asked, self.result = threading.Event(), threading.Event(), result
        self.taken: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.go.wait(60)
        self.taken += spans
        return self.result


def end_spans(batches: Batches, count: int) -> None:
    """End so many spans."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(batches)
    for number in range(count):
        provider.get_tracer("test").start_span(str(number)).end()


def test_a_slow_collector_costs_spans_and_no_time(caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow()
    batches = Batches(slow, TraceSettings("", "otlp", queue=10, batch=2, delay=60.0))
    end_spans(batches, 2)
    assert slow.asked.wait(60)
    started = time.monotonic()
    end_spans(batches, 100)
    batches.stop(0.1)
    assert time.monotonic() - started < 10
    assert batches.counts == {"exported": 0, "failed": 0, "dropped": 100}  # those that waited are lost, too
    assert "10 spans lost: the collector did not take them in time" in caplog.text
    slow.go.set()


def test_a_collector_that_is_away_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    collector = Slow(SpanExportResult.FAILURE)
    collector.go.set()
    batches = Batches(collector, TraceSettings("", "otlp", queue=100, batch=1, delay=60.0))

    def send(count: int) -> None:
        total = sum(batches.counts.values()) + count
        end_spans(batches, count)
        deadline = time.monotonic() + 60
        while sum(batches.counts.values()) < total and time.monotonic() < deadline:
            time.sleep(0.001)

    send(3)
    collector.result = SpanExportResult.SUCCESS
    send(3)
    batches.stop(60)
    assert batches.counts == {"exported": 3, "failed": 3, "dropped": 0}
    assert [each.message for each in caplog.records] == [
        "the collector does not take spans; the service works without it",
        "the collector takes spans again",
    ]


@pytest.mark.parametrize(
    ("sql", "summary", "table"),
    [
        ("SELECT a FROM users WHERE b = $1", "SELECT users", "users"),
        ('SELECT a FROM "my""t" WHERE b = \'FROM secret\'', 'SELECT my"t', 'my"t'),
        ("SELECT a FROM `shop`.`order` AS o", "SELECT order", "order"),
        ("SELECT 1 FROM users JOIN items ON a = b LEFT JOIN users AS u ON c = d", "SELECT users items", None),
        ("SELECT a FROM (SELECT b FROM items) AS x FOR UPDATE", "SELECT items", "items"),
        ("UPDATE users SET a = 5, update_record = 'x'", "UPDATE users", "users"),
        ("INSERT INTO users(a) VALUES ('into secret')", "INSERT users", "users"),
        ("DELETE FROM users WHERE a IN (1, 2)", "DELETE users", "users"),
        ("COMMIT", "COMMIT", None),
    ],
)
def test_what_a_span_says_of_a_statement(sql: str, summary: str, table: str | None) -> None:
    found = described(sql, "'")
    assert found.summary == summary and found.attributes.get("db.collection.name") == table
    assert "secret" not in str(found) and "5" not in str(found)
