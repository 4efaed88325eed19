"""Around the whole application, once for each request: its id and its span, HEAD, metrics, clients that hang up, plain-text
refusals of the framework, unhandled exceptions. One layer for all, since every layer costs every request."""

import asyncio
import logging
import time
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..correlation import REQUEST_ID, request_id_of
from ..redaction import log_fields, redacted_exception
from .disconnects import DisconnectWatch
from .health import PROBES
from .problems import problem_response

logger = logging.getLogger("dbservice.http")

error_hooks: list[Callable[[Exception], None]] = []
"""Called with every unhandled exception, as it is: for tests, which show it to the developer."""


class RequestMiddleware:
    """HEAD is GET without the body; a 413 in plain text becomes a problem; an unhandled exception is logged without the
    values in its text. Requests are counted under the path of their route, `/v1/users/{id}`: one series for each route, not
    for each id. Every answer has the request's id, by which its lines of the log are found, as `X-Request-ID`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._watch = DisconnectWatch()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, inner = scope["method"], scope
        if head := method == "HEAD":
            inner = {**scope, "method": "GET"}
        status, begun, replaced, complete = 500, False, False, False
        request_id = request_id_of(scope["headers"])
        REQUEST_ID.set(request_id)  # never reset: a server gives each request a context of its own
        running = scope["app"].state.running
        span = error_type = None
        if running is not None and running.tracing is not None and scope["path"] not in PROBES:
            span = running.tracing.request(scope)

        async def sent(message: Message) -> None:
            nonlocal status, begun, replaced, complete
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                if status == 413:
                    headers = dict(message["headers"])
                    if replaced := headers.get(b"content-type", b"").startswith(b"text/plain"):
                        await problem_response(413, headers={"X-Request-ID": request_id})(
                            scope, receive, send
                        )
                message = {
                    **message,
                    "headers": [*message["headers"], (b"x-request-id", request_id.encode())],
                }
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
                if head:
                    message = {**message, "body": b""}
            if not replaced:
                await send(message)

        started = time.perf_counter()
        # others go on: a client may well hang up and rely on what it has asked to be stored
        task = self._watch.add(receive) if head or method == "GET" else None
        try:
            await self.app(inner, receive, sent)
        except asyncio.CancelledError:
            if task is not None and self._watch.has_cancelled(task):
                task.uncancel()
                # nobody reads it, but the metrics count it: 499 is nginx's "client closed request"
                status = 499
                await send({"type": "http.response.start", "status": 499, "headers": []})
            elif running is None or running.draining:
                # the server cancels what is left at the end, and would log a traceback for each
                route = getattr(inner.get("route"), "path", "?")
                logger.warning("%s %s was cut off: the service is stopping", method, route)
                if not begun:
                    await _cut_off(method)(scope, receive, sent)
            else:
                raise
        except Exception as error:
            error_type = type(error).__qualname__
            for hook in error_hooks:
                hook(error)
            failure, fields = redacted_exception(error), log_fields(error)
            if not complete:  # half an answer: only the server can end the connection, and it logs this
                for name, value in fields.items():
                    failure.add_note(f"{name}: {value}")
                raise failure from None
            # the client has its 500 by now
            route = getattr(inner.get("route"), "path", "?")
            logger.error("%s %s failed", method, route, exc_info=failure, extra=fields)
        finally:
            if task is not None:
                self._watch.remove(task)
            if running is not None:
                route = getattr(inner.get("route"), "path", "none")
                running.metrics.observe(method, route, status, time.perf_counter() - started)
                if span is not None:
                    span.end(route, status, error_type)


def _cut_off(method: str) -> Response:
    retry = {"Retry-After": "1"}
    if method in ("GET", "HEAD"):
        return problem_response(503, "The service is stopping.", headers=retry)
    detail = "The service is stopping; what was sent may still be stored."
    return problem_response(503, detail, title="Outcome unknown", headers=retry)
