"""Metrics for Prometheus: requests by route and status, the database and its pools, the process.

What is on the way of a request is counted in plain integers by the event loop; families are made of them when somebody asks."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from ..histogram import Histogram
from ..reads import ReadPool
from ..writes import WritePool
from .host_metrics import host_metrics
from .load import Load

if TYPE_CHECKING:
    from ..tracing import Tracing


class Measured(Protocol):
    """What the metrics must know of a running service."""

    reads: ReadPool
    writes: WritePool
    load: Load
    tracing: "Tracing | None"
    revision: str | None

    @property
    def info(self) -> Mapping[str, str]:
        """The name and the version of the service."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether `/readyz` was 200 when it was last looked at."""
        ...

    @property
    def database_is_up(self) -> bool:
        """Whether the database could be used then."""
        ...

    @property
    def cache_is_up(self) -> bool | None:
        """Whether the cache answers; None without one."""
        ...


class Metrics:
    """The metrics of one running service, in a registry of their own."""

    def __init__(self, running: Measured) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(self)
        self._running = running
        self._seconds: dict[tuple[str, str], Histogram] = {}
        self._requests: Counter[tuple[str, str, int]] = Counter()

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request to the path of a route."""
        if method not in _METHODS:
            method = "other"
        try:
            self._seconds[method, route].observe(seconds)
        except KeyError:
            self._seconds[method, route] = histogram = Histogram()
            histogram.observe(seconds)
        self._requests[method, route, status] += 1

    def collect(self) -> Iterator[Metric]:
        """The families, for the registry."""
        running = self._running
        yield _gauge("dbservice_info", "The service and its version.", {tuple(running.info.items()): 1})
        yield from self._http(running.load)
        up, ready = running.database_is_up, running.is_ready
        yield _gauge("service_ready", "Whether /readyz is 200: 1 or 0.", {(): ready})
        yield _gauge("db_up", "Whether the database can be used: 1 or 0.", {(): up})
        revision = (("revision", running.revision or ""),)
        yield _gauge("db_schema_info", "The schema's revision, which the start has found.", {revision: 1})
        yield from _database(running.reads, running.writes)
        yield from host_metrics(running.reads.backend)
        if running.cache_is_up is not None:
            yield _gauge("cache_up", "Whether the cache answers: 1 or 0.", {(): running.cache_is_up})
        if running.tracing is not None:
            spans = {(("outcome", outcome),): count for outcome, count in running.tracing.spans.items()}
            yield _counter("trace_spans", "Spans that were recorded, by what became of them.", spans)

    def _http(self, load: Load) -> Iterator[Metric]:
        seconds = {
            (("method", method), ("route", route)): each for (method, route), each in self._seconds.items()
        }
        yield _histogram("http_request_duration_seconds", "Duration of a request.", seconds)
        requests = {
            (("method", method), ("route", route), ("status", str(status))): count
            for (method, route, status), count in self._requests.items()
        }
        yield _counter("http_requests", "Requests.", requests)
        yield _gauge("http_requests_in_flight", "Requests in flight.", {(): load.requests})
        yield _gauge(
            "http_bytes_in_flight",
            "Received bodies of requests in flight, and answers that are not read yet, in bytes.",
            {(): load.bytes},
        )
        yield _gauge("http_connections", "Connections of clients.", {(): load.connections})


Samples: TypeAlias = Mapping[Any, Any]
"""Numbers or histograms by their labels, which are tuples of a name and a value, with the same names for all."""

_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
"""Methods with a series of their own; any other is counted as `other`."""


def _database(reads: ReadPool, writes: WritePool) -> Iterator[Metric]:
    def by_pool(read: Any, write: Any) -> Samples:
        return {(("pool", "read"),): read, (("pool", "write"),): write}

    def by_reason(read: Mapping[str, int], write: Mapping[str, int]) -> Samples:
        return {
            (("operation", operation), ("reason", reason)): count
            for operation, counts in (("read", read), ("write", write))
            for reason, count in counts.copy().items()  # type: ignore[attr-defined]
        }

    yield _gauge(
        "db_pool_size",
        "Connections that the pool may have; of the write pool, its threads.",
        by_pool(reads.size, writes.size),
    )
    yield _gauge("db_pool_in_use", "Connections in use.", by_pool(reads.in_use, writes.in_use))
    yield _gauge(
        "db_pool_waiting",
        "Reads that wait for a connection, and units of work that wait for a thread.",
        by_pool(reads.waiting, writes.waiting),
    )
    durations = {(("operation", "read"),): reads.durations, (("operation", "write"),): writes.durations}
    yield _histogram(
        "db_operation_duration_seconds",
        "Duration of a read, and of a unit of work with all its attempts; the wait for a connection included.",
        durations,
    )
    yield _counter(
        "db_retries",
        "Reads and units of work that were run again, by what had failed.",
        by_reason(reads.retries, writes.retries),
    )
    yield _counter(
        "db_refused",
        "Reads without an answer and units of work that stored nothing, answered with 503, by reason.",
        by_reason(reads.refused, writes.refused),
    )
    unknown = {(("reason", reason),): count for reason, count in writes.unknown.copy().items()}
    yield _counter("db_outcome_unknown", "Units of work that may have been stored, by reason.", unknown)


def _gauge(name: str, about: str, samples: Samples) -> Metric:
    return _family(GaugeMetricFamily, name, about, samples)


def _counter(name: str, about: str, samples: Samples) -> Metric:
    return _family(CounterMetricFamily, name, about, samples)


def _family(kind: Any, name: str, about: str, samples: Samples) -> Metric:
    family: Metric = kind(name, about, labels=_label_names(samples))
    for labels, value in samples.items():
        family.add_metric([text for _, text in labels], float(value))  # type: ignore[attr-defined]
    return family


def _histogram(name: str, about: str, histograms: Samples) -> Metric:
    family = HistogramMetricFamily(name, about, labels=_label_names(histograms))
    for labels, each in histograms.items():
        family.add_metric([text for _, text in labels], list(each.buckets()), each.seconds)
    return family


def _label_names(samples: Samples) -> list[str]:
    return [name for name, _ in next(iter(samples), ())]
