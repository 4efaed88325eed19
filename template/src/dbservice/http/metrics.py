"""Metrics for Prometheus: requests by route and status, their duration, the use of the pools, and the process."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily

from ..reads import ReadPool
from ..writes import WritePool
from .host_metrics import HostMetrics
from .load import Load


class Metrics:
    """The metrics of one running service, in a registry of their own."""

    def __init__(self, reads: ReadPool, writes: WritePool, load: Load) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Duration of a request.",
            ["method", "route"],
            registry=self.registry,
        )
        self._total = Counter(
            "http_requests", "Requests.", ["method", "route", "status"], registry=self.registry
        )
        self._known: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self._gauge("db_read_pool_size", "Maximum number of connections for reads.", lambda: reads.size)
        self._gauge("db_read_pool_in_use", "Connections in use by reads.", lambda: reads.in_use)
        self._gauge("db_write_pool_size", "Number of threads for writes.", lambda: writes.size)
        self._gauge(
            "db_writes_in_flight", "Units of work that are queued or running.", lambda: writes.in_flight
        )
        self.registry.register(_Refused(writes))
        self.registry.register(HostMetrics(reads.backend))
        self._gauge("http_requests_in_flight", "Requests in flight.", lambda: load.requests)
        self._gauge(
            "http_bytes_in_flight",
            "Received bodies of requests in flight, and answers that are not read yet, in bytes.",
            lambda: load.bytes,
        )
        self._gauge("http_connections", "Connections of clients.", lambda: load.connections)

    def _gauge(self, name: str, about: str, value: Any) -> None:
        Gauge(name, about, registry=self.registry).set_function(value)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request to the path of a route."""
        key = (method if method in _METHODS else "other", route, status)
        both = self._known.get(key)
        if both is None:
            both = self._known[key] = (
                self._seconds.labels(*key[:2]),
                self._total.labels(*key),
            )
        both[0].observe(seconds)
        both[1].inc()


class _Refused:
    """Reads the counts of the pool when somebody asks for them."""

    def __init__(self, writes: WritePool) -> None:
        self._writes = writes

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "db_writes_refused",
            "Units of work that were not stored, or perhaps not, by reason.",
            labels=["reason"],
        )
        for reason, count in self._writes.refused.copy().items():
            family.add_metric([reason], count)
        yield family


_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
"""Methods with a series of their own; any other is counted as `other`."""
