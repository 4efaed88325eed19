"""A Redis server for tests, with an administrator's account and no anonymous one: Debian's `redis-server`, on PATH.

Not imported by its package, because it needs the package `redis`, which only services with a cache have."""

import atexit
import secrets
import shutil
import signal
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .process import Failed, ServerProcess
from .server import ServerNotFound, free_port

DEADLINE = 30.0  # seconds until a started server must accept connections


class Redis:
    """The server. It keeps accounts over a restart, and no data. `options` are added to its command line,
    `more_accounts` to its file of accounts."""

    host = "127.0.0.1"
    user = "admin"

    def __init__(self, *, options: Sequence[str] = (), more_accounts: str = "") -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise ServerNotFound(
                "no Redis here: put `redis-server` on PATH (Debian: apt-get install redis-server)"
            )
        self.port, self.password, self.options = free_port(), secrets.token_hex(16), options
        self._program, self._more_accounts = program, more_accounts
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server, after a stop on the same port, and wait until it answers. Raises Failed."""
        if self._process is None:
            self._process = ServerProcess("redis", users=("redis",), end=signal.SIGTERM)
            atexit.register(self.close)
            accounts = self._process.folder / "users.acl"
            hashed = sha256(self.password.encode()).hexdigest()
            accounts.write_text(
                f"user default off\nuser {self.user} on #{hashed} ~* &* +@all\n{self._more_accounts}"
            )
            shutil.chown(accounts, self._process.folder.stat().st_uid)
        elif self._process.running:
            return
        where: list[str | Path] = [
            "--bind",
            self.host,
            "--port",
            str(self.port),
            "--dir",
            self._process.folder,
        ]
        accounts = self._process.folder / "users.acl"
        kept: list[str | Path] = ["--save", "", "--appendonly", "no", "--aclfile", accounts]
        self._process.start([self._program, *where, *kept, *self.options])
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                self.command("PING")
                return
            except redis.ConnectionError as error:
                if not self._process.running or time.monotonic() > deadline:
                    raise Failed(f"redis-server does not answer: {error}\n{self._process.tail()}") from None
            time.sleep(0.02)

    def stop(self, *, hard: bool = False) -> None:
        """Stop the server; with `hard`, by SIGKILL."""
        if self._process:
            self._process.stop(hard)

    def close(self) -> None:
        """Stop the server and remove its folder."""
        atexit.unregister(self.close)
        if self._process:
            self._process.close()
            self._process = None

    @property
    def pid(self) -> int | None:
        """The process id of the running program."""
        return self._process.pid if self._process else None

    def connect(self, user: str = "", password: str = "") -> Any:
        """A blocking client of redis-py with this account, by default the administrator's. It connects when it is used."""
        account = (user, password) if user else (self.user, self.password)
        return redis.Redis(
            self.host,
            self.port,
            username=account[0],
            password=account[1],
            protocol=2,
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
        )

    def command(self, *words: Any) -> Any:
        """The answer to a command of the administrator."""
        with self.connect() as client:
            return client.execute_command(*words)

    def script(self, text: str) -> None:
        """Run the administrator's commands in `text`, one a line."""
        for line in text.splitlines():
            self.command(*line.split())
        self.command("ACL", "SAVE")

    def environ(self, user: str, password: str) -> dict[str, str]:
        """The environment variables of a service that uses it with this account."""
        where = {"CACHE_HOST": self.host, "CACHE_PORT": str(self.port)}
        return {**where, "CACHE_USER": user, "CACHE_PASS": password}

    def admin_environ(self) -> dict[str, str]:
        """The environment variables that name the administrator's account."""
        return {"ADMIN_CACHE_USER": self.user, "ADMIN_CACHE_PASS": self.password}
