"""HTTP/1.1 on one connection: uvicorn's protocol, with limits, and without what a proxy in front might read differently."""

import asyncio
import logging
import urllib.parse
from http import HTTPStatus
from typing import Any

import httptools
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..limits import Limits
from .connections import Connections, Waiting
from .health import PROBES
from .load import Load
from .metrics import Metrics
from .problems import problem_response

logger = logging.getLogger("dbservice.http")

_MOST_PIPELINED = 16
"""Requests of one connection that wait for the answer to the one before; a client that sends more is refused."""


class HTTPProtocol(HttpToolsProtocol):
    """One connection.

    What is not HTTP/1.1 in one way of reading it is answered with a problem (400, 408, 414, 431, 501, 505), after the
    answers to the requests before it, and nothing more is read from the connection. `Upgrade` is ignored where it asks
    for no WebSocket, so that the body behind it is a body."""

    def __init__(
        self, *args: Any, connections: Connections, limits: Limits, metrics: Metrics, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._others, self._load = connections, connections.load
        self._idle, self._bodies = connections.idle, connections.bodies
        self._limits, self._metrics = limits, metrics
        self._waiting: Waiting | None = None
        self._in_reserve = False
        self._in_head = False  # whether some of a request's headers is received, and not all
        self._begun = False  # whether a request has begun within the bytes that are being read
        self._fed = 0  # the number of these bytes
        self._head_size = (
            0  # of the bytes before them that belong to the same headers, or came with their beginning
        )
        self._before_head = 0  # the number of those that came with it
        self._overhead = 0  # bytes since the last of a body, of chunks' extensions and trailers
        self._length = 0  # of the body, by its Content-Length
        self._hosts = 0
        self._upgrading = False
        self._ended = False  # nothing more is read
        self._refusal: tuple[int, str] | None = None
        self._running: _Cycle | None = None  # the last request that the application was given

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_reserve = self._others.add(self)
        self._wait(self._others.heads)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.release()  # type: ignore[attr-defined]
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = (
                True  # uvicorn says so to the last request, and this may be one before it
            )
            self._running.message_event.set()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._forget()  # the connection has another protocol from now on
        super().handle_websocket_upgrade()

    def _forget(self) -> None:
        self._wait(None)
        self._others.remove(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._others.watch_unsent(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._others.watch_unsent(self)

    @property
    def busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def stop_keep_alive(self) -> None:
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_started:
                cycle.keep_alive = False

    def expire(self, waiting: Waiting) -> None:
        if self.flow.read_paused:  # it is the service that does not read
            self._wait(waiting)
        elif waiting is self._others.heads and self._in_head:
            self._refuse(408, "The headers were not received in time.")
        elif waiting is self._bodies:
            self._wait(None)
            self.cycle.fail(HTTPException(408, headers={"Connection": "close"}))  # type: ignore[attr-defined]
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

    def _should_upgrade(self) -> bool:
        """Whether this is a request for a WebSocket, and has no body."""
        return (
            self.parser.get_method() == b"GET"
            and super()._should_upgrade()
            and not any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        )

    # --- bytes

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._waiting is self._idle:
            self._idle.pop(self, None)
            self._waiting = None
        self._begun, self._fed = False, len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._upgrading:
                self._ignore_upgrade(data[upgrade.args[0] :])
            else:
                self.handle_websocket_upgrade()
            return
        except httptools.HttpParserError as error:
            if not self._ended:
                self._refuse(400, f"This is not HTTP/1.1: {error}.")
            return
        if self._in_head:
            self._head_size += len(data)
            if self._begun:
                self._before_head = len(data)
            elif self._head_size - self._before_head > self._limits.headers:
                self._refuse_head()
                return
            if self._waiting is None:
                self._wait(self._others.heads)
        elif self._waiting is None:
            if not self.busy:  # empty lines before the next request
                self._wait(self._others.heads)
            elif self.cycle.more_body:
                self._wait(self._bodies)
        elif self._waiting is not self._others.heads:
            self._overhead += len(data)
            if self._overhead > self._limits.headers:
                self._refuse(400, "Chunks or trailers are longer than what they hold.")

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read the headers again, without Upgrade, and then the rest: the parser has skipped the body."""
        self._upgrading = False
        head = [self.scope["method"].encode(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.scope["headers"]:
            if name == b"connection":
                tokens = (token.strip() for token in value.split(b","))
                value = b", ".join(token for token in tokens if token.lower() != b"upgrade")
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"".join([*head, b"\r\n", rest]))

    # --- what the parser finds

    def on_message_begin(self) -> None:
        self.url, self.expect_100_continue = b"", False
        self.headers = []
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,  # type: ignore[typeddict-item]
            "root_path": self.root_path,
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        self._in_head = self._begun = True
        self._head_size = self._hosts = self._length = self._overhead = 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self._limits.headers:
            raise self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _CHECKED:
            self._check(name, value)
        self.headers.append((name, value))

    def _check(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            # the parser has refused what is no number, and the route refuses what is too large
            self._length = min(int(value), self._limits.body)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked" or self.parser.get_http_version() == "1.0":
                raise self._refuse(400, "Transfer-Encoding has to be `chunked`, in HTTP/1.1.")
        elif self.parser.get_http_version() != "1.0":
            if value.lower() != b"100-continue":
                raise self._refuse(417, "Expect has to be `100-continue`.")
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._waiting is not None:
            self._wait(None)
        parser, scope, others = self.parser, self.scope, self._others
        method, http_version = parser.get_method(), parser.get_http_version()
        scope["method"] = method.decode("ascii")
        if http_version != "1.1":
            if http_version != "1.0":
                raise self._refuse(505, "The version of HTTP has to be 1.1 or 1.0.")
            scope["http_version"] = http_version
        if self._head_size + self._fed > self._limits.headers or len(self.headers) > _MOST_HEADERS:
            self._measure_head()
        if self._hosts != 1 and (self._hosts or http_version == "1.1"):
            raise self._refuse(400, "Host has to be sent, once.")
        if b"#" in self.url:
            raise self._refuse(400, "A URL is sent without its fragment.")
        if parser.should_upgrade():
            if method == b"CONNECT":
                raise self._refuse(501, "This is not a proxy.")
            self._upgrading = not self._should_upgrade()
            return
        self.headers = []  # of the trailers, which must not be taken for headers
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        scope["path"] = self.root_path + path
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = url.query or b""

        app = self.app
        if (self._in_reserve or self._load.is_full(self._length)) and path not in PROBES:
            app = self._answer_overload
        before = self.cycle
        self.cycle = cycle = (_ExpectCycle if self.expect_100_continue else _Cycle)(
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
            and parser.should_keep_alive()
            and not (others.draining or self._in_reserve),
            on_response=self.on_response_complete,
        )
        cycle.load = self._load
        if before is None or before.response_complete:
            self._running = cycle
            self._start_asgi_task(cycle, app)
        elif len(self.pipeline) < _MOST_PIPELINED:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
        else:
            self.cycle = before
            raise self._refuse(503, "Too many requests were sent without waiting for an answer.")

    def on_body(self, body: bytes) -> None:
        self._overhead = -self._fed  # data_received adds as much
        cycle: _Cycle = self.cycle  # type: ignore[assignment]
        if cycle.response_complete or cycle.failure is not None:
            return
        cycle.body += body
        cycle.received += len(body)
        self._load.bytes += len(body)
        if self._load.has_too_many_bytes:
            self._overload(cycle)
        elif len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        cycle: _Cycle = self.cycle  # type: ignore[assignment]
        if self.headers and any(name == b"connection" for name, _ in self.headers):
            raise self._refuse(400, "Connection is no trailer.")
        cycle.more_body = False
        if cycle.response_complete:
            self._wait(self._idle)
            return
        if self._waiting is not None:
            self._wait(None)
            # while its body was received, it was not counted
            if (
                self._load.has_too_many_requests
                and cycle.failure is None
                and cycle.scope["path"] not in PROBES
            ):
                self._overload(cycle)
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._running.received:  # type: ignore[union-attr]
            self._running.release()  # type: ignore[union-attr]
        if self.transport.get_write_buffer_size():
            self._others.watch_unsent(self)
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._running = cycle  # type: ignore[assignment]
            self._start_asgi_task(cycle, app)
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

    def _refuse_head(self) -> Exception:
        if len(self.url) > self._limits.headers // 2:
            return self._refuse(414, f"The URL and the headers are longer than {self._limits.headers} bytes.")
        return self._refuse(431, f"The headers are longer than {self._limits.headers} bytes.")

    def _measure_head(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.headers:
            raise self._refuse_head()
        if len(self.headers) > _MOST_HEADERS:
            raise self._refuse(431, f"There are more than {_MOST_HEADERS} headers.")

    def _refuse(self, status: int, detail: str) -> Exception:
        """Answer with a problem, after what is in flight, and read nothing more. What to raise to stop the parser."""
        self._ended = True
        self._wait(None)
        logger.info("refused a request: %d %s", status, detail)
        cycle: _Cycle = self.cycle  # type: ignore[assignment]
        if not self._in_head and self.busy and cycle.more_body:  # its own body is wrong
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

    def _overload(self, cycle: "_Cycle") -> None:
        self._load.refused += 1
        cycle.fail(HTTPException(503, _OVERLOADED, headers={"Retry-After": "1"}))

    async def _answer_overload(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._load.refused += 1
        self._metrics.observe(scope["method"], "none", 503, 0.0)
        response = problem_response(503, _OVERLOADED, headers={"Retry-After": "1"})
        await response(scope, receive, send)


class _Cycle(RequestResponseCycle):
    """A request and its answer."""

    load: Load
    failure: HTTPException | None = None
    received = 0
    """Bytes of the body that are counted in `load`."""

    async def receive(self) -> Any:
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not (self.disconnected or self.response_complete):
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        if self.failure is not None and not self.response_started:
            raise self.failure
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def fail(self, failure: HTTPException) -> None:
        """Raise `failure` to whoever reads the body, and forget the body."""
        if not self.response_started:
            self.failure = failure
            self.release()
            self.message_event.set()

    def release(self) -> None:
        self.load.bytes -= self.received
        self.received = 0
        self.body.clear()


class _ExpectCycle(_Cycle):
    """A request that waits for a `100 Continue`. Answered without one, its client may send the body or not."""

    async def send(self, message: Any) -> None:
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False
        await super().send(message)


class _Refused(Exception):
    """The connection is refused; stops the parser."""


_MOST_HEADERS = 256
_CHECKED = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
_OVERLOADED = "Too much is in flight."
