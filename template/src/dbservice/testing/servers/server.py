"""What every server of the tests can do: start, stop, be killed, come back with its data, make databases."""

import atexit
import random
import secrets
import signal
import socket
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import psycopg2
import pymysql

from .process import Failed, ServerProcess

DEADLINE = 60.0  # seconds a server may take until it answers


class ServerNotFound(LookupError):
    """A server cannot be had on this machine; the message is one sentence that says how to get it."""


@dataclass(frozen=True)
class Database:
    """Where a database is, and the account that owns it."""

    type: str  # a value of DB_TYPE: postgresql, mysql or sqlite
    name: str
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = ""

    def environ(self) -> dict[str, str]:
        """The variables that point a service at it."""
        if self.type == "sqlite":
            return {"DB_TYPE": self.type, "DB_NAME": self.name}
        return {
            "DB_TYPE": self.type,
            "DB_HOST": self.host,
            "DB_PORT": str(self.port),
            "DB_NAME": self.name,
            "DB_USER": self.user,
            "DB_PASS": self.password,
        }

    def connect(self) -> Any:
        """A DB-API connection by the driver alone: psycopg2, pymysql or sqlite3."""
        if self.type == "sqlite":
            return sqlite3.connect(self.name)
        where: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "connect_timeout": 10,
        }
        if self.type == "postgresql":
            return psycopg2.connect(**where, dbname=self.name, password=self.password)
        # PyMySQL sends a password as latin-1, the servers keep it as UTF-8.
        password = self.password.encode().decode("latin-1")
        return pymysql.connect(**where, database=self.name or None, password=password, charset="utf8mb4")


class Server(ABC):
    """One server and its administrator's account: started by us, or an `external` one that only answers."""

    engine: ClassVar[str]
    type: ClassVar[str]  # its DB_TYPE
    home_database: ClassVar[str]  # the one its administrator connects to
    usual_port: ClassVar[int]
    users: ClassVar[Sequence[str]]  # whom root starts it as, the first that exists
    end: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self, *, durable: bool = False, options: Sequence[str] = (), external: Database | None = None
    ) -> None:
        self.durable = durable
        self.options = options
        self.external = external is not None
        self.admin = external or Database(
            self.type, self.home_database, "127.0.0.1", free_port(), "admin", secrets.token_hex(16)
        )
        self._program = Path() if external else self.locate()
        self._process: ServerProcess | None = None

    @property
    def host(self) -> str:
        return self.admin.host

    @property
    def port(self) -> int:
        return self.admin.port

    @property
    def user(self) -> str:
        return self.admin.user

    @property
    def password(self) -> str:
        return self.admin.password

    @property
    def pid(self) -> int | None:
        """Of the running program."""
        return self._process.pid if self._process else None

    @property
    def folder(self) -> Path:
        """Where its data, its socket and its log are."""
        assert self._process, f"{self.engine} was not started"
        return self._process.folder

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it, on the same port and data as before if there was a before, and wait until it answers."""
        if self.external or self.pid:
            return
        if self._process is None:
            self._process = ServerProcess(self.engine, users=self.users, end=self.end)
            atexit.register(self.close)
            try:
                self._program = self._process.usable(self._program, *self.parts())
                self.prepare(self._process)
            except BaseException:
                self.close()
                raise
        self._process.start(self.command())
        self._wait(self._process)

    def stop(self, hard: bool = False) -> None:
        """Stop it as an operator would or, with `hard`, kill it where it stands."""
        if self.external:
            raise ServerNotFound(
                f"the {self.engine} server of DB_TEST_URL is not the tests' to stop: unset DB_TEST_URL"
            )
        if self._process:
            self._process.stop(hard)

    def restart(self, hard: bool = False) -> None:
        self.stop(hard)
        self.start()

    def close(self) -> None:
        """Stop it and remove its data."""
        atexit.unregister(self.close)
        if self._process:
            self._process.close()
            self._process = None

    def create_database(self, name: str | None = None, password: str | None = None) -> Database:
        """A fresh database and, by the same name, an account that may do everything in it."""
        self.start()
        name = name or f"t_{secrets.token_hex(5)}"
        database = Database(
            self.type, name, self.host, self.port, name, password or secrets.token_urlsafe(16)
        )
        self.create(database)
        return database

    def query(self, sql: Any, *values: object) -> list[tuple[Any, ...]]:
        """What a statement answers, run by the administrator and committed at once."""
        with closing(self.admin.connect()) as connection, connection.cursor() as cursor:
            if self.type == "postgresql":
                connection.autocommit = True
            else:
                connection.autocommit(True)
            cursor.execute(sql, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    @property
    def version(self) -> str:
        """As the server itself gives it."""
        return str(self.query("SELECT version()")[0][0])

    @abstractmethod
    def is_mine(self) -> bool:
        """Whether what answers is this engine at all."""

    @classmethod
    @abstractmethod
    def locate(cls) -> Path:
        """The server's program, in its home's bin or sbin; raises ServerNotFound."""

    def parts(self) -> tuple[Path, Sequence[str]]:
        """What the program cannot do without: a folder, and the folders in it."""
        return self._program.parent.parent, ["."]

    @abstractmethod
    def prepare(self, process: ServerProcess) -> None:
        """Fill the data folder."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """What starts it."""

    @abstractmethod
    def create(self, database: Database) -> None: ...

    @abstractmethod
    def drop_database(self, database: Database) -> None:
        """Drop the database and its account, whoever is still connected."""

    def lingers(self, log: str) -> bool:
        """Whether it did not start only because what was killed before it is not quite gone."""
        return False

    def _wait(self, process: ServerProcess) -> None:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                self.admin.connect().close()
                return
            except (psycopg2.Error, pymysql.Error) as error:
                reason = str(error)
            if time.monotonic() > deadline:
                process.stop(hard=True)
                raise Failed(
                    f"{self.engine} did not answer within {DEADLINE:.0f} s: {reason}\n{process.tail()}"
                )
            if not process.running:
                process.stop(hard=True)
                if not self.lingers(process.tail()):
                    raise Failed(f"{self.engine} ended while starting\n{process.tail()}")
                time.sleep(0.2)
                process.start(self.command())
            time.sleep(0.05)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses, below those that a system gives to clients: none takes it while a server
    restarts."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
