"""What an engine must say: how the three libraries connect, how values travel, what its errors mean.

Nothing outside this folder asks which engine it is."""

import enum
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.sql.compiler import IdentifierPreparer

from ..limits import Limits
from ..settings import Settings
from ..types import ColumnType

Convert = Callable[[Any], Any]

# Every name stands in quotes: SQLAlchemy's lists of the words that an engine keeps for itself are not whole, and an
# engine's next version keeps more.
IdentifierPreparer.illegal_initial_characters = set(string.printable)


class Fault(enum.Enum):
    """What a driver's exception means."""

    DUPLICATE = "a unique key stands against it"
    REFERENCE = "a foreign key stands against it"
    VALUE = "a value the column does not take"
    RETRY = "the whole unit of work was rolled back and may be tried again"
    LOST = "the connection is gone"
    READ_ONLY = "the server takes no writes, as after a failover"
    TIMEOUT = "the statement took too long and was ended"
    STARTING = "nobody answers yet: worth waiting for"
    DENIED = "the account or password is wrong"
    MISSING = "the database does not exist"
    OTHER = "anything else"


class Engine(ABC):
    """One engine, one set of settings. Methods that connect raise the driver's own exceptions; `fault` reads them."""

    name: ClassVar[str]
    dialect: ClassVar[str]
    """SQLAlchemy's name of the engine and driver that migrations use."""
    adapter: ClassVar[str]
    """The scheme under which PyDAL finds our adapter."""
    begin = "BEGIN"
    """What opens a unit of work."""
    begin_joins = False
    """Whether `begin` can travel in front of the first statement, in the same round trip."""

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

    # --- writes, migrations and the start: the synchronous driver

    @abstractmethod
    def connect(self, *, statement_timeout: float | None = None, autocommit: bool = True) -> Any:
        """A DB-API connection with its session set up (strict, UTC, READ COMMITTED). `statement_timeout` in seconds."""

    def cut(self, connection: Any) -> None:  # noqa: B027
        """End what another thread waits for on its connection."""

    def sqlalchemy(self) -> sa.Engine:
        """SQLAlchemy's engine for migrations: no pool, no time limit on a statement."""
        return sa.create_engine(
            f"{self.dialect}://",
            creator=lambda: self.connect(autocommit=False),
            poolclass=sa.pool.NullPool,
            hide_parameters=True,  # an error may reach a log
        )

    def prepare(self, connection: sa.Connection) -> None:
        """Make what must be there before the first migration. Leaves no transaction open."""
        connection.rollback()

    @contextmanager
    @abstractmethod
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        """Hold the lock `name`, which one session in the whole database can hold. Raises TimeoutError."""

    @property
    def writers(self) -> int:
        """How many threads write."""
        return self.settings.writes

    # --- reads: the asynchronous driver under `databases`

    @abstractmethod
    def read_url(self) -> str:
        """The URL `databases` understands."""

    @abstractmethod
    def read_options(self) -> dict[str, Any]:
        """The keyword options of `databases` (options in its URL are ignored where unknown)."""

    @abstractmethod
    def compiler(self) -> sa.Dialect:
        """The dialect reads are compiled with."""

    @abstractmethod
    async def open_reader(self, raw: Any) -> None:
        """Set up the session of a new read connection, the driver's own `raw`."""

    @abstractmethod
    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        """Run one compiled statement on the driver's connection; its rows, as the driver gives them. Raises TimeoutError
        after `limit` seconds."""

    @abstractmethod
    async def abort_reader(self, raw: Any) -> None:
        """Make sure that nobody uses the driver's connection again, and that the server ends what it does for it."""

    # --- values

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

    # --- errors

    @abstractmethod
    def fault(self, error: BaseException) -> Fault:
        """What a driver's exception means."""

    @abstractmethod
    def columns_of(self, error: BaseException) -> str:
        """The name of the constraint or column that `error` (a conflict) speaks of; empty when it does not say."""

    def healthy(self, answer: Any) -> bool:
        """Whether the answer to `health_statement` means that the node takes work."""
        return True

    health_statement: ClassVar[str] = "SELECT 1"


class PlainLike:
    """Mixed into SQLAlchemy's compiler: without `escape=`, LIKE takes a backslash for a backslash, as SQLite does."""

    no_escape = " ESCAPE ''"

    def visit_like_op_binary(self, *binary: Any, **options: Any) -> str:
        return self._plain("visit_like_op_binary", *binary, **options)

    def visit_not_like_op_binary(self, *binary: Any, **options: Any) -> str:
        return self._plain("visit_not_like_op_binary", *binary, **options)

    def _plain(self, visit: str, binary: Any, *operator: Any, **options: Any) -> str:
        sql: str = getattr(super(), visit)(binary, *operator, **options)
        return sql if binary.modifiers.get("escape") is not None else sql + self.no_escape


def read_url(scheme: str, settings: Settings, password: str) -> str:
    """The URL of the server that reads go to, any character quoted."""
    host = f"[{settings.db_read_host}]" if ":" in settings.db_read_host else settings.db_read_host
    account = f"{quote(settings.db_user, safe='')}:{quote(password, safe='')}"
    return f"{scheme}://{account}@{host}:{settings.db_read_port}/{quote(settings.db_name, safe='')}"


def quoted(text: str) -> str:
    """A string literal for a session without backslash escapes; every engine's sessions here are."""
    return "'" + text.replace("'", "''") + "'"
