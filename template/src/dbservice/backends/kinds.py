"""What the exceptions of the drivers mean."""

import enum


class ErrorKind(enum.Enum):
    """The class of a driver's exception."""

    DUPLICATE = "unique constraint violated"
    REFERENCE = "foreign-key constraint violated"
    VALUE = "value not accepted by the column"
    REQUIRED = "required column without a value"
    RETRY = "transaction rolled back by the server, may be retried"
    DEADLOCK = "transaction rolled back by a deadlock"
    LOST = "connection lost"
    NOT_IN_CLUSTER = "node is not part of its cluster"
    READ_ONLY = "server is read-only, as after a failover"
    TIMEOUT = "statement timeout"
    STARTING = "server not reachable yet"
    NO_SLOTS = "server has no free connection"
    DISK_FULL = "disk of the server is full"
    EXHAUSTED = "server lacks memory or another resource"
    DENIED = "account or password refused"
    NO_PRIVILEGE = "account lacks a privilege"
    MISSING = "database does not exist"
    NO_TABLE = "table does not exist"
    NOT_ITS_ROW = "row that the account may not write"
    STATEMENT_POOLING = "pooler without transactions"
    OTHER = "other error"


WORTH_WAITING_FOR = frozenset(
    {ErrorKind.STARTING, ErrorKind.LOST, ErrorKind.NOT_IN_CLUSTER, ErrorKind.NO_SLOTS}
)
"""Errors for which connecting is worth a retry."""

PASSED_OVER = WORTH_WAITING_FOR | {ErrorKind.READ_ONLY, ErrorKind.TIMEOUT}
"""Errors of one server after which another one is tried."""
