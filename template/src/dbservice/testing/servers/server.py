"""The base class of the test servers: start, stop, kill, restart with the same data, create databases."""

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

DEADLINE = 60.0  # seconds until a started server must accept connections


class ServerNotFound(LookupError):
    """A server is not available on this machine; the message is one sentence with how to install it."""


@dataclass(frozen=True)
class Database:
    """The address of a database, and the account that owns it."""

    type: str  # a value of DB_TYPE: postgresql, mysql or sqlite
    name: str
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = ""
    engine: str = ""
    """The name of the server's engine: postgresql, mysql or mariadb."""

    def environ(self) -> dict[str, str]:
        """The environment variables of a service on it."""
        if self.type == "sqlite":
            return {"DB_TYPE": self.type, "DB_NAME": self.name}
        return {
            "DB_TYPE": self.type,
            "DB_HOST": self.host,
            "DB_PORT": str(self.port),
            "DB_NAME": self.name,
            "DB_USER": self.user,
            "DB_PASS": self.password,
            "DB_SINGLE_ACCOUNT": "true",
        }

    def connect(self) -> Any:
        """A DB-API connection of the plain driver: psycopg2, pymysql or sqlite3."""
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
        # PyMySQL encodes a password as latin-1, the servers expect UTF-8.
        password = self.password.encode().decode("latin-1")
        return pymysql.connect(**where, database=self.name or None, password=password, charset="utf8mb4")


class Server(ABC):
    """A server and its administrator's account: started here, or an `external` one that is only connected to."""

    engine: ClassVar[str]
    type: ClassVar[str]  # its DB_TYPE
    home_database: ClassVar[str]  # the one its administrator connects to
    usual_port: ClassVar[int]
    users: ClassVar[Sequence[str]]  # the first one that exists runs the server if the tests run as root
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
        """The process id of the running program."""
        return self._process.pid if self._process else None

    @property
    def folder(self) -> Path:
        """The folder of its data, socket and log."""
        assert self._process, f"{self.engine} was not started"
        return self._process.folder

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server, after a stop with the same port and data, and wait until it accepts connections. Raises Failed."""
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
        """Stop the server; with `hard`, by SIGKILL. Raises ServerNotFound for an external server."""
        if self.external:
            raise ServerNotFound(
                f"the {self.engine} server of DB_TEST_URL cannot be stopped by the tests: unset DB_TEST_URL"
            )
        if self._process:
            self._process.stop(hard)

    def restart(self, hard: bool = False) -> None:
        self.stop(hard)
        self.start()

    def close(self) -> None:
        """Stop the server and remove its data."""
        atexit.unregister(self.close)
        if self._process:
            self._process.close()
            self._process = None

    def create_database(self, name: str | None = None, password: str | None = None) -> Database:
        """A new database, and an account of the same name with all privileges on it."""
        self.start()
        name = name or f"t_{secrets.token_hex(5)}"
        database = Database(
            self.type, name, self.host, self.port, name, password or secrets.token_urlsafe(16), self.engine
        )
        self.create(database)
        return database

    def query(self, sql: Any, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a statement, run by the administrator in autocommit mode."""
        with closing(self.admin.connect()) as connection, connection.cursor() as cursor:
            if self.type == "postgresql":
                connection.autocommit = True
            else:
                connection.autocommit(True)
            cursor.execute(sql, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    @property
    def version(self) -> str:
        """The version that the server reports."""
        return str(self.query("SELECT version()")[0][0])

    @abstractmethod
    def is_mine(self) -> bool:
        """Whether the server is of this engine."""

    @classmethod
    @abstractmethod
    def locate(cls) -> Path:
        """The path of the server's program. Raises ServerNotFound."""

    def parts(self) -> tuple[Path, Sequence[str]]:
        """The files that the program needs: a folder, and folders in it."""
        return self._program.parent.parent, ["."]

    @abstractmethod
    def prepare(self, process: ServerProcess) -> None:
        """Initialize the data folder."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """The command line of the server."""

    @abstractmethod
    def create(self, database: Database) -> None: ...

    @abstractmethod
    def drop_database(self, database: Database) -> None:
        """Drop the database and its account, even with open connections."""

    def lingers(self, log: str) -> bool:
        """Whether the start failed only because a killed server has not released its resources yet."""
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
                    f"{self.engine} accepted no connection within {DEADLINE:.0f} s: {reason}\n{process.tail()}"
                )
            if not process.running:
                process.stop(hard=True)
                if not self.lingers(process.tail()):
                    raise Failed(f"{self.engine} ended while starting\n{process.tail()}")
                time.sleep(0.2)
                process.start(self.command())
            time.sleep(0.05)


def free_port() -> int:
    """A free port of 127.0.0.1, outside the ephemeral range, so that no client gets it while a server restarts."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
