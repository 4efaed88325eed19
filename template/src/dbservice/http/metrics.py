"""Metrics for Prometheus: requests by route and status, their duration, the use of the pools, and the process."""

import time
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
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..reads import ReadPool
from ..writes import WritePool


class Metrics:
    """The metrics of one running service, in a registry of their own."""

    def __init__(self, reads: ReadPool, writes: WritePool) -> None:
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

    def _gauge(self, name: str, about: str, value: Any) -> None:
        Gauge(name, about, registry=self.registry).set_function(value)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route, status)
        both = self._known.get(key)
        if both is None:
            both = self._known[key] = (
                self._seconds.labels(method, route),
                self._total.labels(method, route, status),
            )
        both[0].observe(seconds)
        both[1].inc()


class MetricsMiddleware:
    """Counts each request under the path of its route, `/v1/users/{id}`: one series for each route, not for each id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            if (running := scope["app"].state.running) is not None:
                running.metrics.observe(method, route, status, time.perf_counter() - started)


_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
"""Methods with a series of their own; any other is counted as `other`."""
