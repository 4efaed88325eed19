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
    """Timeout of a unit of work, from its start on a thread to its commit, all attempts included; then 503, "may still be
    stored"."""
    write_queue: float = 5.0
    """Timeout of a unit of work for getting a thread; then 503, "nothing was stored". A unit that would have to wait longer,
    by the duration of recent units, is refused at once."""
    drain: float = 30.0
    """Timeout after SIGTERM for requests in flight."""
    queue: int = 100
    """Maximum number of queued units of work per thread; beyond it, 503 at once."""
    attempts: int = 20
    """Maximum number of attempts for a unit of work that is rolled back by a deadlock or a conflict between nodes, within
    `write` seconds; then 503, "nothing was stored"."""
    unready: float = 30.0
    """Seconds for which `/readyz` is 503 after a write that failed because the disk is full, the server is read-only or the
    account lacks a privilege, unless a write succeeds before."""
    body: int = 1024 * 1024
    """Maximum size of a request body in bytes; beyond it, 413."""
    receive: float = 20.0
    """Timeout for receiving a request body; then 408."""
