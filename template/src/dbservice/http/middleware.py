"""Around the whole application: HEAD, plain-text refusals of the framework, unhandled exceptions."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem_response

logger = logging.getLogger("dbservice.http")


class ErrorMiddleware:
    """HEAD is GET without the body; a 413 in plain text becomes a problem; an exception is logged without its words."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        replaced = complete = False
        failure: BaseException | None = None

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
            failure = redacted_exception(error)
        if "route" in inner:
            scope["route"] = inner["route"]
        if failure and complete:  # the client has its 500 by now
            route = getattr(scope.get("route"), "path", "?")
            logger.error("%s %s failed", scope["method"], route, exc_info=failure)
        elif failure:  # half an answer: only the server can end the connection, and it logs this
            raise failure


def redacted_exception(error: BaseException, depth: int = 8) -> BaseException:
    """An exception of the same name, place and causes, without its words: they may hold values, and those secrets."""
    kind = type(error)
    about = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    copy: BaseException = type(kind.__name__, (Exception,), about)()
    if depth:
        copy.__cause__ = error.__cause__ and redacted_exception(error.__cause__, depth - 1)
        copy.__context__ = error.__context__ and redacted_exception(error.__context__, depth - 1)
    copy.__suppress_context__ = error.__suppress_context__
    return copy.with_traceback(error.__traceback__)
