"""Opening a connection of the synchronous driver: to the first server that can be used, with a password that may be a new
one."""

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from ..addresses import Address
from ..limits import Limits
from .hosts import Hosts
from .kinds import PASSED_OVER, ErrorKind
from .refusals import Refusals

if TYPE_CHECKING:
    from .interface import Backend

Usable = Generator[str, Sequence[Sequence[Any]], None]


class Connecting(ABC):
    """The part of a backend that opens connections."""

    limits: Limits
    hosts: Hosts
    """The servers for `connect`."""
    read_hosts: Hosts
    """The servers for reads. Those of DB_HOST are the last resort."""

    def connect(
        self, *, statement_timeout: float | None = None, autocommit: bool = True, patient: bool = False
    ) -> Any:
        """A DB-API connection with its session set up (strict mode, UTC, READ COMMITTED), to the first server of `hosts` that
        can be used. `statement_timeout` is in seconds. When the password is refused, the file of DB_PASS_FILE is read again:
        it may hold a new one. A `patient` caller waits until it does (`Limits.password`)."""
        return self.connect_somewhere(statement_timeout, autocommit=autocommit, patient=patient)[0]

    def connect_somewhere(
        self, statement_timeout: float | None, *, autocommit: bool = True, patient: bool = False
    ) -> tuple[Any, Address]:
        """The same, and the server that it leads to."""
        refusals = Refusals(cast("Backend", self), patient=patient)
        while True:
            try:
                return refusals.end(self._open_first(statement_timeout, autocommit))
            except Exception as error:
                if (pause := refusals.pause_after(error)) is None:
                    raise
                time.sleep(pause)

    def _open_first(self, statement_timeout: float | None, autocommit: bool) -> tuple[Any, Address]:
        passed: list[Exception] = []
        for address in self.hosts.in_order():
            began = time.monotonic()
            try:
                connection = self.open_usable(address, self.hosts, statement_timeout, autocommit)
            except Exception as error:
                timed_out = time.monotonic() - began > self.hosts.timeout(self.limits.connect) / 2
                reason = self.connect_error(error) if self.hosts.several and not timed_out else error
                if not self.passes_over(address, self.hosts, reason):
                    raise reason from (None if reason is error else error)
                passed.append(reason)
            else:
                self.hosts.works(address)
                return connection, address
        raise self.most_promising(passed)

    def open_usable(
        self,
        address: Address,
        hosts: Hosts,
        statement_timeout: float | None = None,
        autocommit: bool = True,
    ) -> Any:
        """A connection to one of `hosts`. Raises the driver's exception also if there are others and this one cannot be used
        now."""
        connection = self.open_connection(
            address, statement_timeout, autocommit, hosts.timeout(self.limits.connect)
        )
        try:
            if hosts.several:
                asking = self.ask_usable(writes=hosts.writes)
                self._ask(connection, asking)
                if not autocommit:
                    connection.rollback()
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _ask(connection: Any, asking: "Usable") -> None:
        rows = None
        with closing(connection.cursor()) as cursor:
            try:
                while True:
                    cursor.execute(next(asking) if rows is None else asking.send(rows))
                    rows = cursor.fetchall()
            except StopIteration:
                return

    def passes_over(self, address: Address, hosts: Hosts, error: Exception) -> bool:
        """Whether another one of `hosts` is tried after the `error` of this one, which is remembered."""
        if not isinstance(error, TimeoutError) and self.classify_error(error) not in PASSED_OVER:
            return False
        if hosts.several:
            hosts.failed(address, self.explain(error if error.args else TimeoutError("no answer in time")))
        return True

    def most_promising(self, errors: Sequence[Exception]) -> Exception:
        """The one of the servers' errors that tells best what to wait for: not that a standby takes no writes."""
        kinds = [self.classify_error(each) for each in errors]
        return next(
            (each for each, kind in zip(errors, kinds, strict=True) if kind is not ErrorKind.READ_ONLY),
            errors[0],
        )

    @abstractmethod
    def open_connection(
        self, address: Address, statement_timeout: float | None, autocommit: bool, timeout: float
    ) -> Any:
        """What `connect` returns, with the password of the settings; within `timeout` seconds."""

    def connect_error(self, error: Exception) -> Exception:
        """The exception of `connect`, with the server's error code if the driver omits it. May connect again, and blocks."""
        return error

    def ask_usable(self, *, writes: bool) -> Usable:
        """Yields statements, is sent their rows, and raises the driver's exception if this server cannot be used now though
        others may: it is not part of its cluster, or takes no writes."""
        return
        yield

    @abstractmethod
    def explain(self, error: BaseException) -> str:
        """One sentence for the operator: why the database is unavailable and, if known, what to do. Drivers put no password
        into their errors."""

    @staticmethod
    @abstractmethod
    def classify_error(error: BaseException) -> ErrorKind:
        """The class of a driver's exception."""
