"""What the process has in flight, and when it takes no more."""

from collections.abc import Sized

from ..limits import Limits


class Load:
    """The requests and bytes in flight, and the connections: one object for each running service.

    The server counts them (`protocol`), which also knows of bodies and answers that are not in any route's hands."""

    def __init__(self, limits: Limits) -> None:
        self._requests, self._bytes = limits.requests, limits.bytes_in_flight
        self.tasks: Sized = ()
        """The requests that the application works at."""
        self.receiving: Sized = ()
        """Those of them whose body is not complete."""
        self.bytes = 0
        """Received bodies of requests in flight, and answers that no client has read yet."""
        self.connections = 0
        self.refused = 0
        """Requests that were answered with 503 because of the limits."""

    @property
    def requests(self) -> int:
        """Requests in flight whose body is received."""
        return len(self.tasks) - len(self.receiving)

    @property
    def has_too_many_requests(self) -> bool:
        return self.requests > self._requests

    @property
    def has_too_many_bytes(self) -> bool:
        return self.bytes > self._bytes

    def is_full(self, more: int) -> bool:
        """Whether another request, with `more` bytes of a body to come, is too much."""
        return len(self.tasks) - len(self.receiving) >= self._requests or self.bytes + more > self._bytes
