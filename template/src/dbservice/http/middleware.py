"""Around the whole application: HEAD, plain-text refusals of the framework, unhandled exceptions."""

import logging
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..redaction import log_fields, redacted_exception
from .problems import problem_response

logger = logging.getLogger("dbservice.http")

error_hooks: list[Callable[[Exception], None]] = []
"""Called with every unhandled exception, as it is: for tests, which show it to the developer."""


class ErrorMiddleware:
    """HEAD is GET without the body; a 413 in plain text becomes a problem; an unhandled exception is logged without the
    values in its text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        replaced = complete = False
        failure: BaseException | None = None
        fields: dict[str, str] = {}

        async def sent(message: Message) -> None:
            nonlocal replaced, complete
            if message["type"] == "http.response.start" and message["status"] == 413:
                headers = dict(message["headers"])
                replaced = headers.get(b"content-type", b"").startswith(b"text/plain")
                if replaced:
                    await problem_response(413)(scope, receive, send)
            if message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
                if scope["method"] == "HEAD":
                    message = {**message, "body": b""}
            if not replaced:
                await send(message)

        try:
            await self.app(inner, receive, sent)
        except Exception as error:
            for hook in error_hooks:
                hook(error)
            failure, fields = redacted_exception(error), log_fields(error)
        if "route" in inner:
            scope["route"] = inner["route"]
        if failure and complete:  # the client has its 500 by now
            route = getattr(scope.get("route"), "path", "?")
            logger.error("%s %s failed", scope["method"], route, exc_info=failure, extra=fields)
        elif failure:  # half an answer: only the server can end the connection, and it logs this
            for name, value in fields.items():
                failure.add_note(f"{name}: {value}")
            raise failure
