"""What can go wrong, in the terms of a route: each error knows its HTTP status and says one sentence."""

from http import HTTPStatus


class Problem(Exception):
    """An error an API client is told of, as `application/problem+json` (RFC 9457).

    `status` is the HTTP status, `title` its kind, `retry_after` the seconds after which trying again makes sense."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    title = "Internal error"
    retry_after: int | None = None

    def __init__(self, detail: str, *, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class NotFound(Problem):
    """No such row."""

    status = HTTPStatus.NOT_FOUND
    title = "Not found"


class Conflict(Problem):
    """A unique or foreign key stands against it."""

    status = HTTPStatus.CONFLICT
    title = "Conflict"


class BadValue(Problem):
    """A value that the column cannot hold exactly. `column` says which."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "Bad value"

    def __init__(self, column: str, sentence: str) -> None:
        super().__init__(f"{column} {sentence}", errors=[{"field": column, "message": sentence}])


class Unavailable(Problem):
    """The database does not answer, or is too busy; nothing was stored."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "Unavailable"
    retry_after = 1


class OutcomeUnknown(Problem):
    """The connection or the patience ended while the database was storing: it may or may not have."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "Outcome unknown"
    retry_after = 1


class StartupError(Exception):
    """The service cannot start; one sentence says why and what to do."""
