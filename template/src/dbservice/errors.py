"""What can go wrong, in the terms of a route. Which HTTP status each has stands in `http/problems.py`."""


class ServiceError(Exception):
    """An error that a client is told of. `detail` is one sentence, `errors` names fields and reasons, `retry_after` is the
    number of seconds after which a retry makes sense."""

    retry_after: int | None = None

    def __init__(self, detail: str, *, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class NotFound(ServiceError):
    """No such row."""


class Conflict(ServiceError):
    """Violates a unique or foreign-key constraint."""


class BadValue(ServiceError):
    """A value that the column cannot hold exactly. `column` says which."""

    def __init__(self, column: str, sentence: str) -> None:
        super().__init__(f"{column} {sentence}", errors=[{"field": column, "message": sentence}])


class Unavailable(ServiceError):
    """The database does not answer, or is too busy; nothing was stored. `reason` is one word for the metrics, `retry_after`
    is in seconds."""

    retry_after = 1

    def __init__(
        self,
        detail: str,
        *,
        reason: str = "other",
        retry_after: int = 1,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(detail, errors=errors)
        self.reason, self.retry_after = reason, retry_after


class OutcomeUnknown(ServiceError):
    """The connection was lost or the time limit reached during COMMIT: the write may or may not be stored."""

    retry_after = 1


class StartupError(Exception):
    """The service cannot start; one sentence says why and what to do."""
