"""MariaDB and MySQL as installed: on PATH, or MySQL in the folder DB_TEST_MYSQL_HOME."""

import os
import shutil
import subprocess
from abc import abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pymysql

from .process import Failed, ServerProcess
from .server import Database, Server, ServerNotFound

ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", "/usr/local/mysql/bin")  # often not on PATH


class MySQLFamily(Server):
    """The common base of MariaDB and MySQL."""

    type = "mysql"
    home_database = ""
    usual_port = 3306
    users = ("mysql",)
    fresh_accounts: ClassVar[str]  # SQL that removes the initial accounts without a password

    def is_mine(self) -> bool:
        return ("MariaDB" in self.version) == (self.engine == "mariadb")

    def prepare(self, process: ServerProcess) -> None:
        first = process.folder / "first.sql"  # executed at the first start; one statement per line
        first.write_text(
            f"CREATE USER '{self.user}'@'%' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{self.user}'@'%' WITH GRANT OPTION;\n"
            f"{self.fresh_accounts};\nFLUSH PRIVILEGES;\n"
        )
        first.chmod(0o644)  # the parent folder is not accessible to others
        try:
            process.run(self.installer())
        except Failed:  # seen once in many hundred times, on a busy machine
            shutil.rmtree(self.folder / "data", ignore_errors=True)
            process.run(self.installer())

    @abstractmethod
    def installer(self) -> list[str | Path]:
        """The command line that initializes the data folder."""

    def places(self) -> list[str | Path]:
        return [f"--basedir={self._program.parent.parent}", f"--datadir={self.folder / 'data'}"]

    def command(self) -> list[str | Path]:
        folder = self.folder
        words: list[str | Path] = [self._program, "--no-defaults", *self.places(), f"--tmpdir={folder}"]
        words += [f"--bind-address={self.host}", f"--port={self.port}", f"--socket={folder / 'socket'}"]
        words += [f"--pid-file={folder / 'pid'}", "--skip-name-resolve", "--default-time-zone=+05:30"]
        words += ["--innodb-use-native-aio=0", "--innodb-buffer-pool-size=64M", "--performance-schema=OFF"]
        if not self.durable:  # a commit survives a kill of the server
            words += [
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-flush-method=nosync",
                "--innodb-doublewrite=0",
            ]
        first = folder / "first.sql"
        return [*words, *([f"--init-file={first}"] if first.exists() else []), *self.options]

    def start(self) -> None:
        super().start()
        if not self.external:
            (self.folder / "first.sql").unlink(missing_ok=True)

    def create(self, database: Database) -> None:
        name = database.name.replace("`", "``")
        self.query(f"CREATE DATABASE `{name}`")
        self.query("CREATE USER %s@'%%' IDENTIFIED BY %s", database.user, database.password)
        pattern = name.replace("_", r"\_").replace("%", r"\%%")  # an unescaped _ is a wildcard there
        self.query(f"GRANT ALL ON `{pattern}`.* TO %s@'%%'", database.user)

    def drop_database(self, database: Database) -> None:
        name = database.name.replace("`", "``")
        self.query("DROP USER IF EXISTS %s@'%%'", database.user)
        # An open transaction would block DROP DATABASE.
        for (session,) in self.query(
            "SELECT id FROM information_schema.processlist WHERE user = %s", database.user
        ):
            with suppress(pymysql.Error):  # already closed
                self.query(f"KILL {session}")
        self.query(f"DROP DATABASE IF EXISTS `{name}`")


class MariaDB(MySQLFamily):
    engine = "mariadb"
    fresh_accounts = "DELETE FROM mysql.global_priv WHERE User IN ('', 'root')"

    @classmethod
    def locate(cls) -> Path:
        for program in _programs("mariadbd", "mysqld"):
            if "MariaDB" in _version(program):
                return program
        raise ServerNotFound(
            "no MariaDB here: put `mariadbd` on PATH (Debian: apt-get install mariadb-server),"
            " or let DB_TEST_URL name a server, as mariadb://admin:password@host:port"
        )

    def installer(self) -> list[str | Path]:
        name = "mariadb-install-db"
        script = next((path for path in self._program.parent.parent.glob(f"*/{name}")), Path(name))
        words = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
        return [script, *words, *self.places()]


class MySQL(MySQLFamily):
    engine = "mysql"
    fresh_accounts = "DROP USER 'root'@'localhost'"

    @classmethod
    def locate(cls) -> Path:
        home = os.environ.get("DB_TEST_MYSQL_HOME")
        for program in [Path(home) / "bin/mysqld"] if home else _programs("mysqld"):
            answer = _version(program)
            if "Ver 8." in answer and "MariaDB" not in answer:
                return program
            if home:
                raise ServerNotFound(
                    f"DB_TEST_MYSQL_HOME should hold MySQL 8 in bin/mysqld, whose --version says: {answer}"
                )
        raise ServerNotFound(
            "no MySQL 8 here: put its `mysqld` on PATH, let DB_TEST_MYSQL_HOME name the folder with bin/mysqld,"
            " or let DB_TEST_URL name a server, as mysql://admin:password@host:port"
        )

    def installer(self) -> list[str | Path]:
        return [
            self._program,
            "--no-defaults",
            "--initialize-insecure",
            *self.places(),
            "--innodb-flush-method=nosync",
        ]

    def command(self) -> list[str | Path]:
        return [*super().command(), "--mysqlx=OFF", "--secure-file-priv=NULL", "--disable-log-bin"]


def _programs(*names: str) -> list[Path]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *ELSEWHERE])
    return [Path(found).resolve() for name in names if (found := shutil.which(name, path=path))]


def _version(program: Path) -> str:
    """The output of `--version`: Debian's `mysqld` is MariaDB."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return (done.stdout + done.stderr).strip()
