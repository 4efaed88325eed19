"""How long and how much: every limit of a running service, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Seconds, unless the name says otherwise. Give `Service(limits=Limits(...))` to change one."""

    connect: float = 5.0
    """Until a connection stands."""
    acquire: float = 5.0
    """A read waits this long for a free connection, then 503."""
    statement: float = 10.0
    """One statement, in the server; a read or a write that takes longer is ended."""
    write: float = 15.0
    """A unit of work, from the queue to its commit; then 503."""
    drain: float = 30.0
    """SIGTERM waits this long for what is in flight."""
    queue: int = 100
    """Units of work that may wait for a thread, per thread; one more is answered 503."""
    attempts: int = 5
    """How often a unit of work is tried that the engine rolled back for a deadlock or a conflict between nodes."""
    body: int = 1024 * 1024
    """Bytes of a request's body; more is answered 413."""
    receive: float = 20.0
    """The body of a request comes within this time, or is answered 408."""
