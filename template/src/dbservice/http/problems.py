"""Errors as `application/problem+json` (RFC 9457): one sentence for people, fields and reasons for programs."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ..errors import BadValue, Conflict, NotFound, OutcomeUnknown, ServiceError, Unavailable
from ..redaction import describe, log_fields
from .bodies import MAX_ERRORS, InvalidBody
from .encoding import encode
from .refusals import RefusalLog

DETAILS = {
    404: "There is nothing at this path.",
    405: "This path does not take that method.",
    408: "The body was not received in time.",
    409: "Violates a unique or foreign-key constraint.",
    413: "The body is too large.",
    422: "A value is invalid.",
    503: "The database is unavailable or too busy; Retry-After says when to try again.",
}
"""What a status means: the `detail` of a problem that has none of its own, and the description in OpenAPI."""


class Problem(ServiceError):
    """An error of the service's own: its HTTP `status` (4xx or 5xx), `detail` in one sentence, and what else RFC 9457 knows.
    `errors` names fields and messages, `retry_after` is in seconds."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str | None = None,
        errors: list[dict[str, str]] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail, errors=errors)
        self.status, self.title, self.retry_after = status, title, retry_after


def problem_response(
    status: int,
    detail: str = "",
    *,
    title: str | None = None,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """The problem as a response; without `detail`, with what its status means."""
    title = title or _TITLES.get(status) or _phrase(status)
    detail = detail or DETAILS.get(status) or f"{title}."
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors:
        body["errors"] = errors
    return Response(encode(body), status, headers, "application/problem+json")


def install(app: FastAPI) -> None:
    """Make `app` answer every error as a problem."""
    refusals = RefusalLog()

    @app.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> Response:
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
        status, title = _status_of(error)
        if status >= 500:
            cause = error.__cause__
            refusals.add(request, status, error.detail, describe(cause) if cause else "", log_fields(cause))
        detail = f"{error.detail}." if isinstance(error, BadValue) else error.detail
        return problem_response(status, detail, title=title, errors=error.errors, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        return invalid(error.errors())

    @app.exception_handler(InvalidBody)
    async def invalid_body(request: Request, error: InvalidBody) -> Response:
        return invalid(error.errors)

    def invalid(found: Sequence[Any]) -> Response:
        errors = [_field_error(each) for each in found[:MAX_ERRORS]]
        detail = "; ".join(f"{each['field']} {each['message']}" for each in errors)
        return problem_response(422, f"{detail}.", title=_STATUSES[BadValue][1], errors=errors)

    @app.exception_handler(HTTPException)
    async def http_exception(request: Request, error: HTTPException) -> Response:
        status, headers = error.status_code, dict(error.headers or {})
        if status in (204, 304):
            return Response(status_code=status, headers=headers)
        if status == 405:  # the framework names the methods of one route, a resource has several
            headers["Allow"] = ", ".join(_allowed_methods(request))
        # of 413 the framework's own sentence depends on its version
        detail = "" if error.detail == _phrase(status) or status == 413 else str(error.detail)
        if status >= 500:
            refusals.add(request, status, detail)
        return problem_response(status, detail, headers=headers)

    @app.exception_handler(Exception)
    async def unhandled(request: Request, error: Exception) -> Response:
        # the error's own text may hold values: RequestMiddleware logs it, the client is told nothing of it
        return problem_response(500, "The service failed; its log says where.")


_STATUSES: dict[type[ServiceError], tuple[int, str]] = {
    NotFound: (404, "Not found"),
    Conflict: (409, "Conflict"),
    BadValue: (422, "Bad value"),
    Unavailable: (503, "Unavailable"),
    OutcomeUnknown: (503, "Outcome unknown"),
}
"""The status and title of each error."""

_TITLES = {404: "Not found", 413: "Content Too Large"}  # the second's phrase depends on the version of Python

_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a field",
    "model_attributes_type": "must be a JSON object, sent as application/json",
    "dict_type": "must be a JSON object, sent as application/json",
    "model_type": "must be a JSON object, sent as application/json",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
"""What is said instead of pydantic's message, by the type of its error."""


def _status_of(error: ServiceError) -> tuple[int, str | None]:
    if isinstance(error, Problem):
        return error.status, error.title
    for kind in type(error).__mro__:
        if kind in _STATUSES:
            return _STATUSES[kind]
    return 500, "Internal error"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # a number that no standard knows
        return "Error"


def _allowed_methods(request: Request) -> list[str]:
    """The methods that the path takes, of all routes."""
    allowed = [
        method
        for method in ("DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    return sorted([*allowed, "HEAD"]) if "GET" in allowed else allowed


def _field_error(error: Any) -> dict[str, str]:
    """Field and message of pydantic's error, never the value: it may be a secret."""
    if error["type"] == "json_invalid":
        return {"field": "body", "message": f"is not JSON: {error['ctx']['error']}"}
    where = [str(part) for part in error["loc"]]
    field = ".".join(where[1:]) or where[0]
    message = _MESSAGES.get(error["type"], "").format(**error.get("ctx", {})) or error["msg"]
    return {"field": field[:200], "message": message[:1].lower() + message[1:]}
