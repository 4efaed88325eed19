"""The timeouts and size limits of a running service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Timeouts are in seconds. Pass `Service(limits=Limits(...))` to change one.

    Those of connections and of what is in flight hold for `serve`, those of reads, writes and bodies under every server.
    /healthz, /readyz and /metrics are answered whatever else is refused."""

    connect: float = 5.0
    """Timeout for opening a connection; of several hosts, each gets its share, at least 2."""
    failover: float = 5.0
    """Seconds after the last answer of the database for which reads and units of work that lost their connection are tried
    again on new ones, as while a proxy or a standby takes over; later they are tried again once, then 503."""
    host_check: float = 3.0
    """Seconds between two looks at hosts that failed; where DB_HOST or DB_READ_HOST name several."""
    password: float = 5.0
    """Time for which a refused password is tried again if it is in the file of DB_PASS_FILE: a new one reaches the file and
    the server one after the other. Requests that need a new connection wait meanwhile; then 503."""
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
    drain: float = 20.0
    """Timeout for requests in flight once the service takes no more connections, which is `SHUTDOWN_DELAY` after SIGTERM;
    what is left is cancelled. Both together are less than the 30 seconds after which Kubernetes kills."""
    queue: int = 100
    """Maximum number of queued units of work per thread; beyond it, 503 at once."""
    attempts: int = 20
    """Maximum number of attempts for a unit of work that is rolled back by a deadlock or a conflict between nodes, within
    `write` seconds; then 503, "nothing was stored"."""
    unready: float = 30.0
    """Seconds for which `/readyz` is 503 after a write that failed because the disk is full, the server is read-only or the
    account lacks a privilege, unless a write succeeds before."""
    privileges: float = 5.0
    """Seconds for which `/readyz` takes it that the account still has the privileges that it had; while it lacks one, it is
    503, and looks each time."""
    body: int = 1024 * 1024
    """Maximum size of a request body in bytes; beyond it, 413."""
    body_values: int = 50_000
    """Maximum number of values in a JSON body, those of objects and lists included; beyond it, 422."""
    page_bytes: int = 4 * 1024 * 1024
    """Maximum size of the values of a page in bytes, as the database counts them; the page has fewer rows, at least one, and
    a `next`."""
    receive: float = 20.0
    """Timeout for receiving a request body; then 408."""
    headers: int = 64 * 1024
    """Maximum size of a request's first line and headers in bytes; beyond it, 414 if the URL is most of it, else 431, as
    for more than 256 headers. The connection is closed."""
    headers_timeout: float = 20.0
    """Timeout for receiving the headers, from the start of the connection or the first byte of a later request; then 408.
    The connection is closed, without an answer if nothing was received."""
    keep_alive: float = 75.0
    """Timeout of a connection that waits for its next request; then it is closed. Longer than the 60 seconds of nginx and
    AWS, so that a proxy never sends a request to a connection that is being closed."""
    send: float = 20.0
    """Timeout of a client for reading the next 64 KiB of an answer, or what is left of it; then the connection is aborted."""
    connections: int | None = None
    """Maximum number of connections, by default 4096, and in any case as few as the process has descriptors for. A new one
    beyond it replaces the one that has been idle for longest; where none is idle, its request is answered with 503."""
    requests: int = 1000
    """Maximum number of requests in flight whose body is received; beyond it, 503."""
    bytes_in_flight: int = 64 * 1024 * 1024
    """Maximum size of all received bodies of requests in flight and of all answers that no client has read yet, in bytes;
    beyond it, 503."""
    traces: float = 2.0
    """Seconds in which the traces of the last requests are sent at the end, after `drain`; then they are dropped."""
    cache: float = 0.5
    """Timeout of a command to the cache; then a value counts as absent."""
    cache_pause: float = 1.0
    """Time in which the cache is not asked after it failed to answer; values count as absent meanwhile."""
    migration_lock: float = 3.0
    """Seconds for which a statement of a migration waits for a lock for which requests would queue behind it; then it lets
    them pass, and is tried again until `MIGRATE_LOCK_TIMEOUT` is over."""
    large_table: int = 32 * 1024 * 1024
    """Size of a table in bytes, with its indexes, from which on `migrate` refuses a statement that copies it while nobody can
    write to it, unless the revision accepts that. A smaller one is copied in about a second."""
