"""What Prometheus sees: requests by route and status, their time, and how full the pools are."""

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..reads import ReadPool
from ..writes import WritePool


class Metrics:
    """The metrics of one running service, in a registry of their own."""

    def __init__(self, reads: ReadPool, writes: WritePool) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "http_request_duration_seconds", "Time of a request.", ["method", "route"], registry=self.registry
        )
        self._total = Counter(
            "http_requests", "Requests.", ["method", "route", "status"], registry=self.registry
        )
        self._known: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self._gauge("db_read_pool_size", "Connections that reads may use.", lambda: reads.size)
        self._gauge("db_read_pool_in_use", "Connections that reads use now.", lambda: reads.in_use)
        self._gauge("db_write_pool_size", "Threads that write.", lambda: writes.size)
        self._gauge("db_writes_in_flight", "Units of work that wait or run.", lambda: writes.in_flight)

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
    """Counts each request under its route's template, so that ids make no series of their own."""

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
"""Whoever makes up methods makes no series of their own."""
