"""The timeouts and size limits of a running service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Timeouts are in seconds. Pass `Service(limits=Limits(...))` to change one."""

    connect: float = 5.0
    """Timeout for opening a connection."""
    acquire: float = 5.0
    """Timeout of a read for acquiring a connection; then 503."""
    statement: float = 10.0
    """Statement timeout, for reads and writes; the server cancels a longer statement."""
    write: float = 15.0
    """Timeout of a unit of work, from queueing to commit; then 503."""
    drain: float = 30.0
    """Timeout after SIGTERM for requests in flight."""
    queue: int = 100
    """Maximum number of queued units of work per thread; beyond it, 503."""
    attempts: int = 5
    """Maximum number of attempts for a unit of work that is rolled back by a deadlock or a conflict between nodes."""
    body: int = 1024 * 1024
    """Maximum size of a request body in bytes; beyond it, 413."""
    body_values: int = 50_000
    """Maximum number of values in a JSON body, those of objects and lists included; beyond it, 422."""
    page_bytes: int = 4 * 1024 * 1024
    """Maximum size of the values of a page in bytes, as the database counts them; the page has fewer rows, at least one, and
    a `next`."""
    receive: float = 20.0
    """Timeout for receiving a request body; then 408."""
