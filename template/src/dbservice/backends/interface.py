"""What a backend must provide: how the three libraries connect, how values travel, what its errors mean, how it migrates.

Nothing outside this folder asks which engine it is."""

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import sqlalchemy as sa

from ..limits import Limits
from ..settings import Settings
from ..types import ColumnType

Convert = Callable[[Any], Any]


class ErrorKind(enum.Enum):
    """What a driver's exception means."""

    DUPLICATE = "unique constraint violated"
    REFERENCE = "foreign-key constraint violated"
    VALUE = "value not accepted by the column"
    REQUIRED = "required column without a value"
    RETRY = "transaction rolled back by the server, may be retried"
    LOST = "connection lost"
    NOT_IN_CLUSTER = "node is not part of its cluster"
    READ_ONLY = "server is read-only, as after a failover"
    TIMEOUT = "statement timeout"
    STARTING = "server not reachable yet"
    NO_SLOTS = "server has no free connection"
    DENIED = "account or password refused"
    NO_PRIVILEGE = "account lacks a privilege"
    MISSING = "database does not exist"
    NO_TABLE = "table does not exist"
    OTHER = "other error"


WORTH_WAITING_FOR = frozenset(
    {ErrorKind.STARTING, ErrorKind.LOST, ErrorKind.NOT_IN_CLUSTER, ErrorKind.NO_SLOTS}
)
"""What a later attempt to connect may not meet any more."""


class Codec(ABC):
    """How values of our column types are declared, sent and read on one engine."""

    @abstractmethod
    def column_type(self, column: ColumnType, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The SQL type that declares `column`."""

    @abstractmethod
    def to_driver(self, column: ColumnType) -> Convert | None:
        """What makes a Python value, already checked, the driver's; None where nothing is to be done."""

    @abstractmethod
    def from_driver(self, column: ColumnType) -> Convert | None:
        """What makes the driver's value, never NULL, the Python value; None where it is one already."""

    def from_sync_driver(self, column: ColumnType) -> Convert | None:
        """The same for the driver PyDAL uses."""
        return self.from_driver(column)

    @abstractmethod
    def literal(self, column: ColumnType, value: Any) -> str:
        """`value`, already checked, as an SQL literal: for PyDAL, which sends nothing else, and for DEFAULT."""

    def default(self, column: ColumnType, value: Any) -> str:
        """`value` as the SQL of a DEFAULT."""
        return self.literal(column, value)

    def computed(self, column: ColumnType, sql: str) -> str:
        """The whole number that `sql` computes, for an UPDATE of `column`, as SQL that fails where it does not fit."""
        return sql


class Migrations(ABC):
    """What migrations need from one engine."""

    drivername: ClassVar[str]
    """SQLAlchemy's name of the engine and driver."""

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend

    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine for migrations: no pool, no time limit on a statement."""
        return sa.create_engine(
            f"{self.drivername}://",
            creator=lambda: self.backend.connect(autocommit=False),
            poolclass=sa.pool.NullPool,
            hide_parameters=True,  # an error may reach a log
        )

    def create_schema(self, connection: sa.Connection) -> None:
        """Create the schema if it is missing. Leaves no transaction open."""
        connection.rollback()

    @contextmanager
    @abstractmethod
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        """Hold the lock `name`, which one session in the whole database can hold. Raises TimeoutError."""


class Backend(ABC):
    """One engine, one set of settings. Methods that connect raise the driver's own exceptions; `classify_error` reads them."""

    name: ClassVar[str]
    adapter: ClassVar[str]
    """The scheme under which PyDAL finds our adapter."""
    begin = "BEGIN"
    """What opens a unit of work."""
    pipeline_begin = False
    """Whether `begin` can travel in front of the first statement, in the same round trip."""
    codec: ClassVar[Codec]
    migrations: Migrations
    health_statement: ClassVar[str] = "SELECT 1"
    advice: ClassVar[dict[ErrorKind, str]] = {
        ErrorKind.DENIED: "the account {account} or its password is refused ({words}): check {prefix}DB_USER and {prefix}DB_PASS",
        ErrorKind.MISSING: "there is no database {database} that {account} may use ({words}): check DB_NAME",
        ErrorKind.NO_SLOTS: "the server has no free connection for {account} ({words}): lower DB_POOL_SIZE, or raise the"
        " connection limit of the server or the account",
    }
    """What to tell an operator, where the driver's own words are not enough."""

    def __init__(
        self,
        settings: Settings,
        *,
        schema: str = "public",
        application: str = "dbservice",
        limits: Limits | None = None,
    ) -> None:
        self.settings, self.schema, self.application = settings, schema, application
        self.limits = limits or Limits()

    # --- writes, migrations and startup: the synchronous driver

    @abstractmethod
    def connect(self, *, statement_timeout: float | None = None, autocommit: bool = True) -> Any:
        """A DB-API connection with its session set up (strict, UTC, READ COMMITTED). `statement_timeout` in seconds."""

    def connect_error(self, error: Exception) -> Exception:
        """What `connect` raised, with the server's own code where the driver leaves that out. May ask the server again,
        and blocks meanwhile."""
        return error

    def interrupt(self, connection: Any) -> None:  # noqa: B027
        """End what another thread waits for on its connection."""

    @property
    def writers(self) -> int:
        """How many threads write, of the `DB_POOL_SIZE` connections."""
        return self.settings.db_pool_size // 2

    @property
    def readers(self) -> int:
        """How many connections read: those that no thread writes with."""
        return self.settings.db_pool_size - self.writers

    # --- reads: the asynchronous driver under `databases`

    @abstractmethod
    def read_url(self) -> str:
        """The URL `databases` understands."""

    @abstractmethod
    def read_options(self) -> dict[str, Any]:
        """The keyword options of `databases` (options in its URL are ignored where unknown)."""

    @abstractmethod
    def dialect(self) -> sa.Dialect:
        """SQLAlchemy's dialect that reads are compiled with."""

    @abstractmethod
    async def init_connection(self, raw: Any) -> None:
        """Set up the session of a new read connection, the driver's own `raw`."""

    @abstractmethod
    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        """Run one compiled statement on the driver's connection; its rows, as the driver gives them. Raises TimeoutError
        after `limit` seconds."""

    @abstractmethod
    async def terminate(self, raw: Any) -> None:
        """Make sure that nobody uses the driver's connection again, and that the server ends what it does for it."""

    def check_health(self, answer: Any) -> None:  # noqa: B027
        """Raise the driver's exception if the answer to `health_statement` means that the node takes no work."""

    @property
    def schema_statement(self) -> str:
        """SQL whose answer `describe_schema` reads; empty where nothing but the table itself can be missing."""
        return ""

    def describe_schema(self, answer: Any) -> str:
        """Why the account sees no table of the schema, in a sentence; empty when there just is none."""
        return ""

    # --- errors

    def explain(self, error: BaseException) -> str:
        """Why the database cannot be used, in one sentence for the operator, with what to do where that is known. No
        driver puts a password into its errors."""
        settings = self.settings
        sentence = self.advice.get(self.classify_error(error), "{words}").format(
            words=_words(error),
            account=settings.db_user,
            database=settings.db_name,
            prefix="MIGRATE_" if settings.db_user == settings.migrate_db_user else "",
        )
        return f"{sentence}."

    @staticmethod
    @abstractmethod
    def classify_error(error: BaseException) -> ErrorKind:
        """What a driver's exception means."""

    string_quotes: ClassVar[str] = "'"
    """The quotation marks of a string in SQL."""

    @staticmethod
    @abstractmethod
    def error_details(error: BaseException) -> tuple[str, str]:
        """The server's code for `error`, empty where it has none, and its message alone: without details, hints, context."""

    @staticmethod
    @abstractmethod
    def constraint_name(error: BaseException) -> str:
        """The name of the constraint or column that `error` (a conflict) speaks of; empty when it does not say."""


def _words(error: BaseException) -> str:
    """The text of a driver's exception, in one line."""
    text = str(error.args[-1]) if error.args else type(error).__name__
    if isinstance(error.__cause__, OSError):  # aiomysql leaves out why it cannot connect
        text = f"{text} ({error.__cause__})"
    return " ".join(text.split()).rstrip(".")
