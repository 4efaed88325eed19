"""One connection of the server: what it waits for, what it is refused, what of it is in flight."""

import asyncio
import logging
import urllib.parse
from collections import deque
from http import HTTPStatus
from typing import Any

import httptools
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from .connections import Connections, Waiting
from .cycle import Cycle, ExpectCycle
from .framing import StrictProtocol
from .health import PROBES
from .metrics import Metrics
from .problems import problem_response

logger = logging.getLogger("dbservice.http")

_MOST_PIPELINED = 16
"""Requests of one connection that wait for the answer to the one before; a client that sends more is refused."""
_OVERLOADED = "Too much is in flight."


class HTTPProtocol(StrictProtocol):
    """One connection.

    A request that cannot be read is answered with a problem (400, 408, 414, 417, 431, 501, 505), after the answers to those
    before it; then the connection is closed."""

    cycle: Cycle
    pipeline: deque[tuple[Cycle, Any]]  # type: ignore[assignment]

    def __init__(self, *args: Any, connections: Connections, metrics: Metrics, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._others, self._load, self._metrics = connections, connections.load, metrics
        self._idle = connections.idle
        self._waiting: Waiting | None = None
        self._in_reserve = False
        self._refusal: tuple[int, str] | None = None
        self._running: Cycle | None = None  # the last request that the application was given

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_reserve = self._others.add(self)
        self._wait(self._others.heads)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        for cycle in self._unanswered():
            cycle.release()
            cycle.disconnected = True  # uvicorn says so to the last request only
            cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._forget()  # the connection has another protocol from now on
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._others.watch_unsent(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._others.watch_unsent(self)

    def data_received(self, data: bytes) -> None:
        if self._waiting is self._idle:
            self._idle.pop(self, None)
            self._waiting = None
        StrictProtocol.data_received(self, data)
        if self._waiting is None and not self.ended:
            if self.in_body:
                self._wait(self._others.bodies)
            # in no head and not busy: empty lines before a request
            elif self.in_head or self.cycle is None or self.cycle.response_complete:
                self._wait(self._others.heads)

    @property
    def busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def stop_keep_alive(self) -> None:
        for cycle in self._unanswered():
            if not cycle.response_started:
                cycle.keep_alive = False

    def expire(self, waiting: Waiting) -> None:
        if self.flow.read_paused:  # it is the service that does not read
            self._wait(waiting)
        elif waiting is self._others.heads and self.in_head:
            self.refuse(408, "The headers were not received in time.")
        elif waiting is self._others.bodies:
            self._wait(None)
            self.cycle.fail(HTTPException(408, headers={"Connection": "close"}))
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _wait(self, waiting: Waiting | None) -> None:
        """Wait for something else from now on, or for nothing."""
        if self._waiting is not None:
            self._waiting.pop(self, None)
        self._waiting = waiting
        if waiting is not None:
            waiting[self] = self.loop.time()

    def _unanswered(self) -> list[Cycle]:
        running = [] if self._running is None or self._running.response_complete else [self._running]
        return running + [cycle for cycle, _ in self.pipeline]

    def _forget(self) -> None:
        self._wait(None)
        self._others.remove(self)

    # --- requests

    def request_received(self, http_version: str) -> None:
        if self._waiting is not None:
            self._wait(None)
        scope = self.scope
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            raise self.refuse(400, "This is not a URL.") from None
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        scope["path"] = self.root_path + path
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = url.query or b""
        app = self.app
        if (self._in_reserve or self._load.is_full(self.length)) and path not in PROBES:
            app = self._answer_overload
        before = self.cycle
        cycle = (ExpectCycle if self.expect_100_continue else Cycle)(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=http_version != "1.0"
            and self.parser.should_keep_alive()
            and not (self._others.draining or self._in_reserve),
            on_response=self.on_response_complete,
        )
        cycle.load = self._load
        if before is None or before.response_complete:
            self.cycle = self._running = cycle
            self._start_asgi_task(cycle, app)  # pyright: ignore[reportArgumentType]
        elif len(self.pipeline) < _MOST_PIPELINED:
            self.cycle = cycle  # pyright: ignore[reportIncompatibleVariableOverride]
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
        else:
            raise self.refuse(503, "Too many requests were sent without waiting for an answer.")

    def on_body(self, body: bytes) -> None:
        self.overhead = -self.fed
        cycle, load, size = self.cycle, self._load, len(body)
        if cycle.response_complete or cycle.failure is not None:
            return
        cycle.body += body
        cycle.received += size
        load.bytes += size
        if load.has_too_many_bytes:
            self._overload(cycle)
        elif len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def body_received(self) -> None:
        cycle = self.cycle
        cycle.more_body = False
        if cycle.response_complete:
            self._wait(self._idle)
            return
        if self._waiting is not None:
            self._wait(None)
            # while its body was received, it was not counted
            if self._load.has_too_many_requests and not cycle.failure and cycle.scope["path"] not in PROBES:
                self._overload(cycle)
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._running is not None and self._running.received:
            self._running.release()
        if self.transport.get_write_buffer_size():
            self._others.watch_unsent(self)
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._running, app = self.pipeline.pop()
            self._start_asgi_task(self._running, app)
            return
        self.flow.resume_reading()
        if self._refusal is not None:
            self._answer_refusal(*self._refusal)
        elif self.cycle.more_body:
            self._wait(self._others.lingering)
        elif self._waiting is None:
            self._waiting = idle = self._idle
            idle[self] = self.loop.time()

    # --- refusals

    def refuse(self, status: int, detail: str) -> Exception:
        self.ended = True
        self._wait(None)
        logger.info("refused a request: %d %s", status, detail)
        cycle = self.cycle
        own = self.in_body and cycle is not None and cycle.more_body  # a body that is wrong
        if own and cycle.response_complete:
            self.transport.close()  # nothing more can be said
        elif own:
            cycle.keep_alive = False
            cycle.fail(HTTPException(status, detail))
        elif self.busy:
            self._refusal = (status, detail)
        else:
            self._answer_refusal(status, detail)
        return _Refused()

    def _answer_refusal(self, status: int, detail: str) -> None:
        if self.transport.is_closing():
            return
        self._metrics.observe("other", "none", status, 0.0)
        response = problem_response(status, detail, headers={"Connection": "close"})
        if status == 503:
            response.headers["Retry-After"] = "1"
        content = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()]
        for name, value in self.server_state.default_headers + response.raw_headers:
            content += [name, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*content, b"\r\n", bytes(response.body)]))
        self.transport.write_eof()
        self.flow.resume_reading()
        self._wait(self._others.lingering)

    def _overload(self, cycle: Cycle) -> None:
        self._load.refused += 1
        cycle.fail(HTTPException(503, _OVERLOADED, headers={"Retry-After": "1"}))

    async def _answer_overload(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._load.refused += 1
        self._metrics.observe(scope["method"], "none", 503, 0.0)
        response = problem_response(503, _OVERLOADED, headers={"Retry-After": "1"})
        await response(scope, receive, send)


class _Refused(Exception):
    """The connection is refused; stops the parser."""
