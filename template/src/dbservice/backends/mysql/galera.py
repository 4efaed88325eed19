"""Migrations on a Galera cluster: a lock that spans its nodes, and reads of what other nodes have committed.

GET_LOCK and FOR UPDATE only know the sessions of their own node (and Percona's cluster refuses GET_LOCK). The lock is a
row: of two nodes that insert or change it at once, certification lets one commit. Decision 20."""

import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.constants import ER

from ...errors import StartupError
from ..interface import Lock

LEASE = 15.0
"""Seconds without a renewal after which a waiting session takes the lock over: its holder was killed."""

RELEASE_TIMEOUT = 3.0
"""Seconds for deleting the row at the end; after that it is left, and taken over."""

_CONFLICTS = {ER.DUP_ENTRY, ER.LOCK_DEADLOCK, ER.LOCK_WAIT_TIMEOUT}


def is_galera(connection: Any) -> bool:
    """Whether the server of a DB-API connection is a node of a Galera cluster."""
    with connection.cursor() as cursor:
        # MySQL has no such row, and a single MariaDB an empty value
        cursor.execute("SHOW GLOBAL STATUS LIKE 'wsrep_provider_name'")
        row = cursor.fetchone()
    return bool(row and row[1])


def catch_up(connection: Any, timeout: float) -> None:
    """Let the session read what was committed on other nodes before each of its statements. Raises StartupError if the node
    is more than `timeout` seconds behind."""
    deadline = time.monotonic() + timeout
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION wsrep_sync_wait = 15")  # for all kinds of statements
        while True:
            try:
                cursor.execute("SELECT 1")
                break
            except pymysql.Error as error:  # it waits for 30 seconds
                if error.args[0] not in _CONFLICTS:
                    raise
                if time.monotonic() > deadline:
                    raise StartupError(
                        f"This node is more than {timeout:g} seconds behind its Galera cluster, which may execute a long ALTER"
                        " TABLE: wait until it has ended, or set MIGRATE_LOCK_TIMEOUT to wait longer."
                    ) from error
    connection.commit()


class RowLock(Lock):
    """The lock as the only row of a table. `is_held` renews it.

    A waiting session takes it over when it has not seen it change for LEASE seconds by its own clock, so that the clocks
    of the nodes do not matter. A renewal that waits for a long ALTER TABLE, as all commits of the cluster do, has its place
    in the order of commits before any takeover, which then fails."""

    def __init__(self, connection: Any, table: str) -> None:
        self._connection, self._cursor, self._table = connection, connection.cursor(), f"`{table}`"
        host = socket.gethostname().encode("ascii", "replace").decode()[:80]
        self._holder = f"{host} {os.getpid()} {secrets.token_hex(8)}"
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = 0.0
        self._in_use = threading.Lock()
        self._cursor.execute("SET SESSION wait_timeout = 31536000")  # the maximum, a year
        _notice_dead_peer(connection)

    def acquire(self) -> bool:
        row = self._read()
        if row is None:
            return self._write("INSERT INTO {} (id, holder, beat) VALUES (1, %s, 0)", self._holder)
        if row != self._seen:
            self._seen, self._seen_at = row, time.monotonic()
        if time.monotonic() - self._seen_at < LEASE:
            return False
        return self._write(
            "UPDATE {} SET holder = %s, beat = 0 WHERE id = 1 AND holder = %s AND beat = %s",
            self._holder,
            *row,
        )

    def is_held(self) -> bool:
        with self._in_use:
            while not self._write("UPDATE {} SET beat = beat + 1 WHERE id = 1 AND holder = %s", self._holder):
                row = self._read()
                if row is None or row[0] != self._holder:
                    return False
                time.sleep(0.1)
            return True

    def how_to_end_holder(self) -> str:
        if self._seen is None:
            return ""
        host, process, _ = self._seen[0].split(" ")
        return f"end process {process} on host {host}, {LEASE:g} seconds after which the lock is free"

    def close(self) -> None:
        # a renewal may still wait in another thread
        if self._in_use.acquire(timeout=RELEASE_TIMEOUT):
            with suppress(Exception):  # without its connection it is left to the next one
                self._connection._read_timeout = RELEASE_TIMEOUT
                self._write("DELETE FROM {} WHERE id = 1 AND holder = %s", self._holder)
        self._connection.close()

    def _read(self) -> tuple[Any, ...] | None:
        try:
            return self._select()
        except pymysql.Error as error:
            if error.args[0] != ER.NO_SUCH_TABLE:
                raise
        self._write(
            "CREATE TABLE IF NOT EXISTS {} (id TINYINT NOT NULL PRIMARY KEY, holder VARCHAR(120) CHARACTER SET ascii NOT NULL,"
            " beat BIGINT NOT NULL) ENGINE=InnoDB"
        )
        return self._select()

    def _select(self) -> tuple[Any, ...] | None:
        self._cursor.execute(f"SELECT holder, beat FROM {self._table} WHERE id = 1")
        row: tuple[Any, ...] | None = self._cursor.fetchone()
        return row

    def _write(self, sql: str, *values: Any) -> bool:
        """Whether the statement changed the row, and committed."""
        try:
            return bool(self._cursor.execute(sql.format(self._table), values or None) == 1)
        except pymysql.Error as error:
            if error.args[0] not in _CONFLICTS:
                raise
            return False


def _notice_dead_peer(connection: Any) -> None:
    """A renewal may wait for as long as an ALTER TABLE takes: not a timeout ends it but the loss of the server."""
    options = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has them all
            connection._sock.setsockopt(socket.IPPROTO_TCP, option, value)
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
