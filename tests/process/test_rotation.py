"""New passwords while a real process serves under load: file and server get them one after the other, and no request fails."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pymysql
import pytest
from pydantic import SecretStr

from dbservice.accounts import commands
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..faults import kill, locked_users, until
from ..sample_service import PATIENT, sample_database, sample_service
from .service_process import Load, Process, environ_of

_SESSIONS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE usename = %s",
    "mysql": "SELECT id FROM information_schema.processlist WHERE user = %s",
}


class Accounts:
    """The declared accounts of the sample service, on a database that has its tables."""

    def __init__(self, server: Server, database: Settings, folder: Path) -> None:
        self.server, self.database = server, database
        self.service = sample_service(folder)
        self.files = {name: folder / name for name in ("DB_PASS", "MIGRATE_DB_PASS")}

    def environ(self, **more: str) -> dict[str, str]:
        return environ_of(
            self.database,
            **{
                "DB_USER": "sample-rw",
                "MIGRATE_DB_USER": "sample-migrate",
                "DB_SINGLE_ACCOUNT": "false",
                **more,
            },
        )

    def with_files(self) -> dict[str, str]:
        """The environment in which the passwords are in files."""
        return self.environ(DB_PASS="", **{f"{name}_FILE": str(path) for name, path in self.files.items()})

    def write_files(self, password: str) -> None:
        for path in self.files.values():
            path.write_text(password)

    def apply(self, password: str) -> list[str]:
        """`grants --apply` with this password."""
        admin = {"ADMIN_DB_USER": self.server.user, "ADMIN_DB_PASS": self.server.password}
        settings = Settings.load(self.environ(DB_PASS=password, MIGRATE_DB_PASS=password, **admin))
        return commands.apply(self.service, self.service.backend(settings), self.service.backend)

    def administrator(self) -> Settings:
        """The settings of the administrator."""
        return self.database.model_copy(
            update={"db_user": self.server.user, "db_pass": SecretStr(self.server.password)}
        )

    def sessions(self) -> set[int]:
        """The connections of the running service."""
        return {int(row[0]) for row in self.server.query(_SESSIONS[self.server.type], "sample-rw")}

    async def new_sessions(self) -> None:
        """The server ends all connections of the service. None of them is in the middle of a commit, after which nobody
        could say whether it was stored."""
        with locked_users(self.server, self.database):
            old = await asyncio.to_thread(self.sessions)
            for each in old:
                await asyncio.to_thread(kill, self.server, each)
            await until(lambda: not old & self.sessions())
        assert old

    def refusals(self) -> int:
        """How many logins the server has refused."""
        if self.server.type == "postgresql":
            return (self.server.folder / "log").read_bytes().count(b"password authentication failed")
        return int(self.server.query("SHOW GLOBAL STATUS LIKE 'Aborted_connects'")[0][1])

    def logs_in(self, password: str) -> bool:
        """Whether the server takes this password, of both accounts or of none."""
        settings = Settings.load(self.environ(DB_PASS=password, MIGRATE_DB_PASS=password))
        taken = []
        for each in (settings, settings.for_migration()):
            try:
                self.service.backend(each).connect().close()
                taken.append(True)
            except (psycopg2.Error, pymysql.MySQLError):
                taken.append(False)
        assert taken[0] == taken[1]
        return taken[0]


@pytest.fixture
def accounts(own_server: Server, tmp_path: Path) -> Iterator[Accounts]:
    server = own_server
    with sample_database(server) as database:
        accounts = Accounts(server, database, tmp_path)
        accounts.write_files("first é")
        accounts.apply("first é")
        yield accounts
    for each in ("sample-rw", "sample-migrate"):
        drop = f'DROP ROLE "{each}"' if server.type == "postgresql" else f"DROP USER '{each}'@'%'"
        server.query(drop)


async def test_no_request_fails_while_passwords_change(accounts: Accounts, tmp_path: Path) -> None:
    migrations = accounts.service.backend(Settings.load(accounts.with_files()).for_migration())
    migrations.connect().close()
    with Process(tmp_path, accounts.with_files(), limits={**PATIENT, "password": 60.0}) as process:
        async with process.client() as client:
            await process.becomes(200, client)
            async with Load(client, clients=24) as load:
                await load.goes_on(20)

                # the file first: what runs goes on with the old password until the server refuses it
                accounts.write_files("second")
                await accounts.new_sessions()
                await load.goes_on(20)
                assert len(await asyncio.to_thread(accounts.apply, "second")) == 2
                await accounts.new_sessions()
                await load.goes_on(20)

                # the server first: what needs a connection waits for the file
                assert len(await asyncio.to_thread(accounts.apply, "third")) == 2
                before = accounts.refusals()
                await accounts.new_sessions()
                await until(lambda: accounts.refusals() > before + 6)
                accounts.write_files("third")
                await load.goes_on(20)
                assert (await client.get("/readyz")).status_code == 200
            assert (load.strange, load.unavailable, load.unknown, load.refused) == ([], [], set(), set())
        load.assert_kept(accounts.administrator())
        assert not [line for line in process.said() if "second" in line or "third" in line]
    for password in ("first é", "second", "third"):
        assert await asyncio.to_thread(accounts.logs_in, password) == (password == "third")
    (await asyncio.to_thread(migrations.connect)).close()


async def test_a_password_that_stays_wrong_is_told_in_time(accounts: Accounts, tmp_path: Path) -> None:
    with Process(tmp_path, accounts.with_files(), limits={**PATIENT, "password": 0.5}) as process:
        async with process.client() as client:
            await process.becomes(200, client)
            await asyncio.to_thread(accounts.apply, "second")
            await accounts.new_sessions()
            user = {"email": "x@example.com"}
            answers = await client.get("/v1/users"), await client.post("/v1/users", json=user)
            assert [each.status_code for each in answers] == [503, 503]
            detail = (await process.becomes(503, client)).json()["detail"]
            assert detail == "The database refuses the service's account."
            accounts.write_files("second")
            await process.becomes(200, client)
            assert (await client.post("/v1/users", json=user)).status_code == 201
    accounts.write_files("third")
    with Process(tmp_path, accounts.with_files()) as process:
        assert process.wait() == 1
        assert "the account sample-rw or its password is refused" in process.said()[-1]
