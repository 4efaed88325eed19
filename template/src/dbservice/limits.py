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
    receive: float = 20.0
    """Timeout for receiving a request body; then 408."""
    cache: float = 0.5
    """Timeout of a command to the cache; then a value counts as absent."""
    cache_pause: float = 1.0
    """Time in which the cache is not asked after it failed to answer; values count as absent meanwhile."""
