"""The spans of a running service, by OpenTelemetry's conventions for HTTP and databases, and without any value: no path, no
query string, no header, no literal of a statement, no text of an error.

    POST /v1/users              the request, part of the trace that `traceparent` names
        unit insert_user        on its thread, from when it was queued; each retry is an event
            INSERT users        a statement, as long as the driver takes
            COMMIT

A statement is part of the span around it. Where there is none, or it is not sampled, nothing is recorded."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode

from ..addresses import Address
from ..backends.interface import Backend, ErrorKind
from .batches import Batches
from .environment import TraceSettings
from .statements import Described, described, described_query

if TYPE_CHECKING:
    from . import TracedService

logger_names = ("opentelemetry",)
"""What OpenTelemetry says of each batch that fails; `Batches` says it once."""


class Tracing:
    """Makes the spans of one running service."""

    def __init__(self, service: "TracedService", backend: Backend, settings: TraceSettings) -> None:
        self._batches = Batches(new_exporter(settings), settings)
        own = Resource({"service.name": service.name, "service.version": service.version})
        told = Resource.create()  # of OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        named = not str(told.attributes["service.name"]).startswith("unknown_service")
        provider = TracerProvider(
            resource=own.merge(told) if named else told.merge(own), shutdown_on_exit=False
        )
        provider.add_span_processor(self._batches)
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(provider)  # for spans that the service makes itself
        self._tracer = provider.get_tracer("dbservice", service.version)
        self._backend = backend
        where = backend.settings
        self._reads = _server(backend, where.read_addresses)
        self._writes = _server(backend, where.addresses)

    @property
    def spans(self) -> Mapping[str, int]:
        """How many spans were sent, by what became of them."""
        return self._batches.counts

    async def stop(self, seconds: float) -> None:
        """Send what has ended, for so many seconds at most."""
        thread = threading.Thread(target=self._batches.stop, args=(seconds,), daemon=True)
        thread.start()
        ends = time.monotonic() + seconds + _CLOSING
        while thread.is_alive() and time.monotonic() < ends:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    # --- requests

    def request(self, scope: Mapping[str, Any]) -> "RequestSpan":
        """The span of the request `scope`, begun; the current one until its end."""
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        attributes = {
            "http.request.method": method,
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
        }
        parent = propagate.extract(scope["headers"], getter=_headers)
        name = "HTTP" if method == "_OTHER" else method
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        return RequestSpan(span, name, otel_context.attach(trace.set_span_in_context(span, parent)))

    # --- reads

    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        """What the backend's `fetch` answers, in a span."""
        fetch = partial(self._backend.fetch, raw, sql, arguments, limit)
        if not trace.get_current_span().is_recording():
            return await fetch()
        with self._statement(described_query(sql, self._backend.string_quotes), self._reads):
            return await fetch()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A span of what a read waits for, inside the one around it."""
        if not trace.get_current_span().is_recording():
            yield
            return
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
            yield

    # --- writes

    def unit(self, run: Callable[..., Any], function: Callable[..., Any], waited: float) -> Any:
        """What `run` answers, in the span of a unit of work that waited so many seconds for its thread."""
        if not trace.get_current_span().is_recording():
            return run()
        while isinstance(function, partial):
            function = function.func
        name = getattr(function, "__qualname__", type(function).__qualname__)
        attributes = {"code.function.name": f"{getattr(function, '__module__', '?')}.{name}"}
        span = self._tracer.start_span(
            f"unit {name.rpartition('.')[2]}",
            attributes=attributes,
            start_time=time.time_ns() - int(waited * 1e9),
        )
        span.add_event("started")
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                return run()
            except BaseException as error:
                _fail(span, type(error).__qualname__)
                raise

    def cursor(self, cursor: Any) -> Any:
        """`cursor`, whose statements are spans."""
        return _Cursor(self, cursor) if trace.get_current_span().is_recording() else cursor

    def retried(self, kind: ErrorKind) -> None:
        """The current read or unit of work is about to run again."""
        trace.get_current_span().add_event("retry", {"error.type": kind.name.lower()})

    def executed(self, execute: Callable[[], Any], sql: str) -> Any:
        """What `execute` answers, in the span of the statement `sql`."""
        sql = sql.removeprefix(f"{self._backend.begin};")
        with self._statement(described(sql, self._backend.string_quotes), self._writes):
            return execute()

    @contextmanager
    def _statement(self, statement: Described, server: Mapping[str, Any]) -> Iterator[None]:
        system = {"db.system.name": self._backend.system}
        span = self._tracer.start_span(
            statement.summary, kind=SpanKind.CLIENT, attributes={**system, **server, **statement.attributes}
        )
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception):
                kind = self._backend.classify_error(error)
                if code := self._backend.error_details(error)[0]:
                    span.set_attribute("db.response.status_code", code)
                _fail(span, "timeout" if isinstance(error, TimeoutError) else kind.name.lower())
            else:
                _fail(span, type(error).__qualname__)
            raise
        finally:
            span.end()


class RequestSpan:
    """The span of a request."""

    __slots__ = ("_name", "_span", "_token")

    def __init__(self, span: Span, name: str, token: Any) -> None:
        self._span, self._name, self._token = span, name, token

    def end(self, route: str, status: int, error_type: str | None) -> None:
        """End it. `route` is the path of its route, `none` without one; `error_type` the name of an unhandled exception."""
        span = self._span
        otel_context.detach(self._token)
        if span.is_recording():
            if route != "none":
                span.update_name(f"{self._name} {route}")
                span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                _fail(span, error_type or str(status))
        span.end()


def new_exporter(settings: TraceSettings) -> SpanExporter:
    """What sends spans as `settings` and the variables of OpenTelemetry say."""
    if settings.exporter == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def trace_ids() -> Mapping[str, str]:
    """The ids of the current trace and span, for the log; empty outside of both."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return {}
    return {"trace_id": f"{current.trace_id:032x}", "span_id": f"{current.span_id:016x}"}


class _Cursor:
    """A DB-API cursor whose statements are spans."""

    def __init__(self, tracing: Tracing, cursor: Any) -> None:
        self._tracing, self._cursor = tracing, cursor

    def execute(self, sql: str, *arguments: Any, **options: Any) -> Any:
        return self._tracing.executed(partial(self._cursor.execute, sql, *arguments, **options), sql)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class _Headers(Getter[Sequence[tuple[bytes, bytes]]]):
    """The headers of an ASGI request."""

    def get(self, carrier: Sequence[tuple[bytes, bytes]], key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1")
        return [value.decode("latin-1") for name, value in carrier if name == wanted] or None

    def keys(self, carrier: Sequence[tuple[bytes, bytes]]) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


_headers = _Headers()
_METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
_CLOSING = 0.5
"""Seconds in which the exporter closes its connections."""


def _server(backend: Backend, addresses: Sequence[Address]) -> Mapping[str, Any]:
    if not addresses:
        return {}
    name = {"db.namespace": backend.settings.db_name}
    if len(addresses) > 1:  # which one is asked, only its connection knows
        return name | {"server.address": ",".join(map(str, addresses))}
    return name | {"server.address": addresses[0].host, "server.port": addresses[0].port}


def _fail(span: Span, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(StatusCode.ERROR)
