"""The interface of a backend: connections for the three libraries, encoding of values, error classes, migrations.

Code outside this folder does not depend on the engine."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event

from ..accounts.declared import Declared
from ..accounts.facts import Fact
from ..addresses import Address
from ..limits import Limits
from ..settings import Settings
from ..types import ColumnType, type_of
from .connecting import Connecting
from .diagnosis import Diagnosis
from .hosts import Hosts
from .kinds import PASSED_OVER as PASSED_OVER
from .kinds import WORTH_WAITING_FOR as WORTH_WAITING_FOR
from .kinds import ErrorKind as ErrorKind
from .online import ChangeRules
from .statements import Lexer

Convert = Callable[[Any], Any]
Asking = Generator[str, Sequence[Sequence[Any]], list[str]]


class Codec(ABC):
    """How the column types are declared, encoded and decoded on one engine."""

    @abstractmethod
    def column_type(self, column: ColumnType, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The SQL type that declares `column`."""

    @abstractmethod
    def to_driver(self, column: ColumnType) -> Convert | None:
        """The function that encodes a checked Python value for the driver; None if it needs no encoding."""

    @abstractmethod
    def from_driver(self, column: ColumnType) -> Convert | None:
        """The function that decodes the driver's value, never NULL; None if it needs no decoding."""

    def from_sync_driver(self, column: ColumnType) -> Convert | None:
        """The same for the synchronous driver, which PyDAL uses."""
        return self.from_driver(column)

    @abstractmethod
    def literal(self, column: ColumnType, value: Any) -> str:
        """A checked value as an SQL literal, for PyDAL, which uses no parameters, and for DEFAULT."""

    def default(self, column: ColumnType, value: Any) -> str:
        """`value` as the SQL of a DEFAULT."""
        return f"({self.literal(column, value)})"

    def byte_length(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """The expression for the number of bytes of `column`, which is text, JSON or binary."""
        return sa.func.octet_length(column)

    def literal_of(self, value: Any) -> str:
        """A value that belongs to no column as an SQL literal. Raises TypeError for an unknown Python type, ValueError for
        what no column holds."""
        return "NULL" if value is None else self.literal(type_of(value), type_of(value).check(value))

    def parameter(self, value: Any) -> Any:
        """The same as a parameter for the driver."""
        if value is None:
            return None
        column = type_of(value)
        encode, value = self.to_driver(column), column.check(value)
        return encode(value) if encode else value

    def computed(self, column: ColumnType, sql: str) -> str:
        """`sql`, an integer expression in an UPDATE of `column`, as SQL that fails on overflow."""
        return sql


UNCHECKED = {"dbservice_unchecked": True}
"""Execution options of a statement that a migration runs to its end even when it is cancelled."""


class Lock(ABC):
    """A lock that one session in the whole database can hold."""

    @abstractmethod
    def acquire(self) -> bool:
        """Acquire the lock if no other session holds it, without waiting; whether this session holds it now."""

    @abstractmethod
    def is_held(self) -> bool:
        """Whether this session still holds the lock. Raises the driver's exceptions when its connection is lost."""

    def how_to_end_holder(self) -> str:
        """How an operator ends the session that holds the lock, for example `KILL 42`; empty if nobody can say."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """Release the lock and end the session."""


class Migrations(ABC):
    """The parts of migrations that depend on the engine."""

    drivername: ClassVar[str]
    """SQLAlchemy's name of the engine and driver."""

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend

    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine for migrations: no pool, no statement timeout."""
        engine = sa.create_engine(
            f"{self.drivername}://",
            creator=lambda: self.backend.connect(autocommit=False),
            poolclass=sa.pool.NullPool,
            hide_parameters=True,  # an error may reach a log
        )
        event.listen(engine, "connect", lambda _, record: record.info.update(limits=self.backend.limits))
        return engine

    def create_schema(self, connection: sa.Connection) -> None:
        """Create the schema if it is missing. Leaves no transaction open."""
        connection.rollback()

    def create_row_view(self, table: sa.Table) -> list[str]:
        """Statements that create `Backend.row_view` and `insert_view` of a shared table, for a database of one account; none
        where the engine has no such views."""
        return []

    @abstractmethod
    def new_lock(self, service: str) -> Lock:
        """The migration lock of a service, not acquired yet."""

    @contextmanager
    def lock(
        self, service: str, timeout: float, *, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[Lock]:
        """Hold the migration lock of a service. Raises TimeoutError after `timeout` seconds, with the text of
        `how_to_end_holder`; between two attempts it calls `sleep`."""
        with closing(self.new_lock(service)) as lock:
            deadline = time.monotonic() + timeout
            while not lock.acquire():
                if time.monotonic() > deadline:
                    raise TimeoutError(lock.how_to_end_holder())
                sleep(0.1)
            yield lock

    def lock_holders(self, tables: Sequence[str]) -> str:
        """Which sessions use these tables, as part of a sentence; empty if nobody can say. Raises the driver's exceptions,
        among them that the account may not know."""
        return ""

    @abstractmethod
    def cancel(self, connection: Any) -> None:
        """Cancel, in the server, the statement that another thread waits for on the driver's `connection`."""


class Accounts(ABC):
    """The accounts of a service on one engine. Methods with a `cursor` run statements over a DB-API connection in
    autocommit and raise the driver's exceptions."""

    # --- what is declared

    @abstractmethod
    def script(self, declared: Declared) -> str:
        """The SQL that an administrator can run any number of times, before or after the tables exist; without passwords."""

    @abstractmethod
    def of_accounts(self, declared: Declared) -> list[Fact]:
        """What is declared of the accounts themselves."""

    @abstractmethod
    def of_tables(self, declared: Declared, existing: Sequence[str]) -> list[Fact]:
        """What is declared of the tables that exist."""

    @abstractmethod
    def after_migration(self, declared: Declared, existing: Sequence[str]) -> list[str]:
        """What the migration account runs after each migration, so that the run-time account may use new tables."""

    # --- what a server holds

    @abstractmethod
    def existing_tables(self, cursor: Any, declared: Declared) -> list[str]:
        """The names of the tables in the service's schema or database, sorted."""

    @abstractmethod
    def other_owners(self, cursor: Any, declared: Declared) -> dict[str, str]:
        """The accounts of other services to which tables belong that this service declares as its own, by table; as far as
        the connection is told about other accounts."""

    @abstractmethod
    def existing_accounts(self, cursor: Any, declared: Declared) -> list[str]:
        """Those of the declared accounts that exist."""

    def seen_accounts(self, cursor: Any, declared: Declared) -> Sequence[str]:
        """The accounts that the connection can tell everything about: of some engines, only its own."""
        return declared.accounts

    @abstractmethod
    def held(self, cursor: Any, declared: Declared) -> list[Fact]:
        """What those accounts effectively hold, however they came by it."""

    @abstractmethod
    def excess(self, cursor: Any, declared: Declared) -> str:
        """Why the account of this connection must not serve requests, as the end of a sentence (`it is a superuser`); empty
        if it may. Any account can ask this of itself."""

    def lacks(self, cursor: Any, declared: Declared, account: str) -> list[str]:
        """The run-time privileges on existing tables that `account` lacks, for example `SELECT on table users`. Any account
        can ask this of itself."""
        asking, rows = self.ask_lacks(declared, account), None
        try:
            while True:
                cursor.execute(next(asking) if rows is None else asking.send(rows))
                rows = cursor.fetchall()
        except StopIteration as done:
            lacking: list[str] = done.value
            return lacking

    @abstractmethod
    def connection_limit(self, cursor: Any) -> int | None:
        """How many connections the account of this connection may have; None without a limit of its own."""

    @abstractmethod
    def ask_lacks(self, declared: Declared, account: str) -> Asking:
        """The same for any driver: yields statements, is sent their rows, and returns what `lacks` does."""

    # --- what an administrator runs

    @abstractmethod
    def create_account(self, account: str) -> list[str]:
        """Statements that create an account that cannot do anything yet."""

    def create_schema(self, declared: Declared) -> list[str]:
        """Statements that create what must exist before anything can be granted."""
        return []

    def not_settable(self, cursor: Any, declared: Declared) -> str:
        """A sentence about what the accounts lack that only a more powerful administrator can give them; empty if nothing. The
        service works without it, and it is no difference."""
        return ""

    @contextmanager
    def administering(self, cursor: Any, declared: Declared) -> Iterator[None]:
        """In the block, the administrator may grant what belongs to the accounts of services, as far as it may administer these."""
        yield

    @contextmanager
    def only_here(self, cursor: Any) -> Iterator[None]:
        """In the block, what the cursor runs changes the node that it is connected to, and no other of its cluster."""
        yield

    @abstractmethod
    def password_statement(self, connection: Any, account: str, password: str) -> str:
        """The statement that sets a password; no log of the server and no process list shows it."""


class Backend(Connecting):
    """One engine with its settings. Methods that connect raise the driver's exceptions, for `classify_error`."""

    name: ClassVar[str]
    adapter: ClassVar[str]
    """The URI scheme of our PyDAL adapter."""
    begin = "BEGIN"
    """The statement that begins a transaction."""
    pipeline_begin = False
    """Whether `begin` can be sent with the first statement, in one round trip."""
    codec: ClassVar[Codec]
    migrations: Migrations
    change_rules: ClassVar[ChangeRules] = ChangeRules()
    accounts: Accounts | None = None
    """None on an engine without accounts."""
    diagnosis: ClassVar[Diagnosis | None] = None
    """None on an engine without a server."""
    health_statement: ClassVar[str] = "SELECT 1"
    advice: ClassVar[dict[ErrorKind, str]] = {
        ErrorKind.DENIED: "the account {account} or its password is refused ({reason}): check {prefix}DB_USER and {prefix}DB_PASS",
        ErrorKind.MISSING: "there is no database {database} that {account} may use ({reason}): check DB_NAME",
        ErrorKind.NO_SLOTS: "the server has no free connection for {account} ({reason}): lower DB_POOL_SIZE, or raise the"
        " connection limit of the server or the account",
    }
    """Error messages for an operator, where the driver's message is not enough."""

    def __init__(
        self,
        settings: Settings,
        *,
        schema: str = "public",
        application: str = "dbservice",
        limits: Limits | None = None,
        writes: bool = True,
    ) -> None:
        self.settings, self.schema, self.application, self.writes = settings, schema, application, writes
        self.system = self.name
        """What the server is, as OpenTelemetry names it; known when `connect` has reached it."""
        self.compiled_for = f"{self.name} {application}"
        """What a compiled query depends on besides its statement."""
        self.limits = limits or Limits()
        self.refuses_password = False
        """Whether the server refused the last password for longer than `Limits.password`."""
        self.hosts = self.read_hosts = Hosts(settings.addresses, writes=writes)
        if settings.has_replica:
            self.read_hosts = Hosts(settings.read_addresses, fallback=settings.addresses, writes=False)

    # --- writes, migrations and startup: the synchronous driver

    def begin_on(self, connection: Any) -> str:
        """The statement that begins a transaction on a connection of `connect`."""
        return self.begin

    def interrupt(self, connection: Any) -> None:
        """Cancel the statement that another thread runs on `connection`."""

    def secret(self, column: ColumnType, value: Any, position: int) -> tuple[str, str] | None:
        """For a checked value of a secret column: its text for `send_secrets`, and the SQL for text number `position`; None
        where it stands in the statement, as a literal."""
        return None

    def send_secrets(self, connection: Any, texts: Sequence[str]) -> None:
        """Send the texts of `secret`, ahead of the statement that has their SQL."""

    lexer: ClassVar[Lexer]
    """What the engine reads as code in a statement."""

    def raw_statement(self, sql: str, values: Any) -> tuple[str, Any]:
        """`sql`, written by hand, as the driver of `connect` takes it, and its arguments. Raises TypeError for several
        statements, values of an unknown type and placeholders that do not match them; ValueError for values that no column holds."""
        self.lexer.check_single(sql)
        return (self.lexer.with_literals(sql, values, self.codec.literal_of) if values else sql), None

    @property
    def writers(self) -> int:
        """The number of write threads, each with one of the `DB_POOL_SIZE` connections; 0 for a service that only reads."""
        return self.settings.db_pool_size // 2 if self.writes else 0

    @property
    def readers(self) -> int:
        """The number of read connections: the rest of `DB_POOL_SIZE`."""
        return self.settings.db_pool_size - self.writers

    # --- reads: the asynchronous driver under `databases`

    @abstractmethod
    def read_url(self, address: Address) -> str:
        """The URL for `databases`."""

    @abstractmethod
    def read_options(self) -> dict[str, Any]:
        """The keyword options for `databases` (which ignores unknown options in a URL)."""

    @abstractmethod
    def dialect(self) -> sa.Dialect:
        """The SQLAlchemy dialect for compiling reads."""

    @abstractmethod
    async def init_connection(self, raw: Any) -> None:
        """Set up the session of a new read connection; `raw` is the driver's connection."""

    @abstractmethod
    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        """Run one compiled statement on the driver's connection and return the rows undecoded. Raises TimeoutError after
        `limit` seconds."""

    @abstractmethod
    async def terminate(self, raw: Any) -> None:
        """Close the driver's connection and cancel its statement in the server."""

    def check_health(self, answer: Any) -> None:
        """Raises the driver's exception if the result of `health_statement` means that the node is not ready."""

    @property
    def schema_statement(self) -> str:
        """The SQL whose result `describe_schema` takes; empty if only the table itself can be missing."""
        return ""

    def describe_schema(self, answer: Any) -> str:
        """Why the account has no access to the tables of the schema, in one sentence; empty if there are none."""
        return ""

    def row_view(self, table: str) -> str:
        """The view in which the service reads, changes and deletes its rows of the table of another service; empty on an
        engine where it uses the table itself."""
        return ""

    def insert_view(self, table: str) -> str:
        """The view into which it inserts them, on an engine with a `row_view`."""
        return ""

    # --- errors

    def explain(self, error: BaseException) -> str:
        """One sentence for the operator: why the database is unavailable and, if known, what to do. Drivers put no password
        into their errors."""
        settings = self.settings
        sentence = self.advice.get(self.classify_error(error), "{reason}").format(
            reason=_reason(error),
            account=settings.db_user,
            database=settings.db_name,
            prefix="MIGRATE_" if settings.db_user == settings.migrate_db_user else "",
        )
        return f"{sentence}."

    string_quotes: ClassVar[str] = "'"
    """The quotation marks of a string in SQL."""

    @staticmethod
    @abstractmethod
    def error_details(error: BaseException) -> tuple[str, str]:
        """The server's code for `error`, empty where it has none, and its message alone: without details, hints, context."""

    @staticmethod
    @abstractmethod
    def constraint_name(error: BaseException) -> str:
        """The name of the constraint or column in `error`, a constraint violation; empty if it has none."""


def _reason(error: BaseException) -> str:
    """The message of a driver's exception, in one line."""
    text = str(error.args[-1]) if error.args else type(error).__name__
    if isinstance(error.__cause__, OSError):  # aiomysql omits the reason why it cannot connect
        text = f"{text} ({error.__cause__})"
    return " ".join(text.split()).rstrip(".")
