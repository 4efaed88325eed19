"""Startup errors: a sentence for each reason, and retries where they can help."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import asyncpg
import psycopg2
import pymysql
import pytest

from dbservice import startup
from dbservice.backends import ErrorKind, backend_for
from dbservice.errors import StartupError, Unavailable
from dbservice.settings import Settings
from dbservice.testing import plugin, servers
from dbservice.testing.servers import Database, Server

from ..bouncer import pgbouncer
from ..cli_service import CliService
from ..faults import wait_until
from ..galera import galera_node, join_cluster, leave_cluster
from ..sample_service import add_users, client_of, sample_database, started
from .service_process import environ_of

USERS = 'class Users(Table, name="users"): email = Column(String(20))\n'


@pytest.fixture(scope="module")
def postgresql(request: pytest.FixtureRequest) -> Server:
    return plugin.find_server("postgresql", request.config)


@pytest.fixture
def place(postgresql: Server) -> Iterator[Settings]:
    """A database of PostgreSQL for one test."""
    with sample_database(postgresql) as settings:
        yield settings


def refused(settings: Settings, **changes: object) -> str:
    """What the start says when it gives up."""
    with pytest.raises(StartupError) as caught:
        startup.wait_for_database(backend_for(settings.model_copy(update=changes)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused_at_once(settings: Settings, **changes: object) -> str:
    """The same, of a start that would have retried for an hour."""
    begun = time.monotonic()
    sentence = refused(settings, **changes, db_max_retries=60, db_retry_delay=60.0)
    assert time.monotonic() - begun < 30 and "attempts" not in sentence
    return sentence


@contextmanager
def waiting(settings: Settings, caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """While a start waits for the database: what it logs. It succeeds at the end of the block."""
    patient = settings.model_copy(update={"db_max_retries": 600, "db_retry_delay": 0.1})
    ended: list[BaseException | None] = []
    said: list[str] = []

    def wait() -> None:
        try:
            startup.wait_for_database(backend_for(patient))
        except BaseException as error:
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        wait_until(lambda: ended or "waiting for" in caplog.text)
        assert not ended, ended
        said.extend(record.getMessage() for record in caplog.records)
        yield said
    finally:
        thread.join(30)
    assert ended == [None]


# --- PostgreSQL: free connections


def test_a_server_without_free_connections_is_waited_for(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    plugin.find_server("postgresql", request.config)  # skips what cannot be had
    options = ["-c", "max_connections=6", "-c", "superuser_reserved_connections=3"]
    with servers.own("postgresql", options=options) as server, sample_database(server) as settings:
        held = []
        with pytest.raises(psycopg2.OperationalError, match="remaining connection slots"):
            while True:
                held.append(backend_for(settings).connect())
        sentence = refused(settings, db_max_retries=1, db_retry_delay=0.0)
        assert sentence.startswith("Cannot use postgresql://") and " after 2 attempts: " in sentence
        assert "the server has no free connection for " in sentence and "DB_POOL_SIZE" in sentence
        assert "DB_PASS" not in sentence
        with waiting(settings, caplog) as said:
            assert "no free connection" in said[0] and "DB_PASS" not in said[0]
            for each in held:
                each.close()


def test_an_account_without_free_connections_is_waited_for(
    postgresql: Server, place: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    postgresql.query(f'ALTER ROLE "{place.db_user}" CONNECTION LIMIT 0')
    assert f'too many connections for role "{place.db_user}"' in refused(place)
    with waiting(place, caplog) as said:
        assert "no free connection" in said[0]
        postgresql.query(f'ALTER ROLE "{place.db_user}" CONNECTION LIMIT -1')


def test_any_other_fatal_error_is_waited_for(
    postgresql: Server, place: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    postgresql.query(f'ALTER DATABASE "{place.db_name}" ALLOW_CONNECTIONS false')
    with waiting(place, caplog) as said:
        assert "is not currently accepting connections" in said[0] and "DB_PASS" not in said[0]
        postgresql.query(f'ALTER DATABASE "{place.db_name}" ALLOW_CONNECTIONS true')


# --- PostgreSQL: what a retry cannot fix


def test_a_wrong_password_is_distinguished_from_other_errors(place: Settings) -> None:
    wrong = Settings.load(environ_of(place, DB_PASS="geheim"))
    sentence = refused_at_once(wrong)
    assert "its password is refused" in sentence and "check DB_USER and DB_PASS" in sentence
    assert "geheim" not in sentence


def test_a_role_that_may_not_log_in_is_named(postgresql: Server, place: Settings) -> None:
    postgresql.query(f'ALTER ROLE "{place.db_user}" NOLOGIN')
    assert "is not permitted to log in" in refused_at_once(place)


def test_a_database_by_an_odd_name_that_is_missing_is_no_role(place: Settings) -> None:
    sentence = refused_at_once(place, db_name='role "x" does not exist')
    assert "there is no database" in sentence and "check DB_NAME" in sentence and "DB_PASS" not in sentence


def test_an_account_that_may_not_connect_gets_the_grant_in_the_message(
    postgresql: Server, place: Settings
) -> None:
    postgresql.query(f'REVOKE CONNECT ON DATABASE "{place.db_name}" FROM PUBLIC')
    postgresql.query(f'ALTER DATABASE "{place.db_name}" OWNER TO CURRENT_USER')
    sentence = refused_at_once(place)
    assert f'GRANT CONNECT ON DATABASE "{place.db_name}" TO "{place.db_user}"' in sentence
    assert "DB_PASS" not in sentence


class ForeignTongue:
    """What answers every client as a server of PostgreSQL that speaks German does, with one error."""

    def __init__(self, code: str, message: str) -> None:
        fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": message}
        body = b"".join(f"{key}{value}".encode() + b"\0" for key, value in fields.items()) + b"\0"
        self._answer = b"E" + struct.pack(">I", len(body) + 4) + body
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.recv(1000)
                client.sendall(self._answer)


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        ("53300", "die verbleibenden Verbindungen sind reserviert", "no free connection"),
        ("28P01", "Passwort-Authentifizierung fehlgeschlagen", "check DB_USER and DB_PASS"),
        ("3D000", "Datenbank »x« existiert nicht", "check DB_NAME"),
        ("42501", "keine Berechtigung für Datenbank »x«", "GRANT CONNECT"),
    ],
)
def test_the_language_of_the_server_does_not_matter(code: str, message: str, words: str) -> None:
    with closing(ForeignTongue(code, message)) as server:
        settings = Settings.load(
            {
                "DB_TYPE": "postgresql",
                "DB_HOST": "127.0.0.1",
                "DB_PORT": str(server.port),
                "DB_NAME": "x",
                "DB_USER": "y",
                "DB_PASS": "z",
                "DB_MAX_RETRIES": "0",
            }
        )
        sentence = refused(settings)
    assert words in sentence and message in sentence


# --- PgBouncer


@pytest.fixture(scope="module")
def bouncer(postgresql: Server) -> Iterator[Settings]:
    """A database behind a PgBouncer that keeps a session of the server for each client."""
    with sample_database(postgresql) as settings:
        database = Database(
            "postgresql",
            settings.db_name,
            *settings.addresses[0],
            settings.db_user,
            settings.db_pass.get_secret_value(),
        )
        with pgbouncer(database, "session") as port:
            yield settings.model_copy(update=dict.fromkeys(("db_port", "db_read_port"), port))


async def test_a_service_runs_behind_pgbouncer(bouncer: Settings) -> None:
    async with started(bouncer, statement=7) as running, client_of(running) as client:
        assert (await client.get("/readyz")).status_code == 200
        created = await client.post("/v1/users", json={"email": "a"})
        assert created.status_code == 201
        assert (await client.get(f"/v1/users/{created.json()['id']}")).json() == created.json()
        assert created.json()["created_at"].endswith("Z")
        names = ("TimeZone", "search_path", "statement_timeout", "default_transaction_isolation")
        sql = f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}"
        expected = ("UTC", '"public"', "7s", "read committed")
        assert tuple((await running.reads.fetch_raw(sql))[0]) == expected
        assert tuple(await running.writes.run(lambda db: db.executesql(sql)[0])) == expected
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await running.reads.fetch_raw("DELETE FROM users")


def test_an_error_of_pgbouncer_is_reported_at_once(bouncer: Settings) -> None:
    assert "check DB_USER and DB_PASS" in refused_at_once(Settings.load(environ_of(bouncer, DB_PASS="x")))
    assert "check DB_USER and DB_PASS" in refused_at_once(bouncer, db_user="nobody")
    assert "check DB_NAME" in refused_at_once(bouncer, db_name="nothing")


# --- Galera


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Iterator[Server]:
    with galera_node(request.config) as server:
        yield server


async def test_a_node_without_its_cluster_is_waited_for(
    node: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with sample_database(node) as settings:
        backend = backend_for(settings)
        async with started(settings) as running:
            await asyncio.to_thread(leave_cluster, node)
            try:
                sentence = refused(settings, db_max_retries=1, db_retry_delay=0.0)
                assert sentence.startswith("Cannot use mysql://") and " after 2 attempts: " in sentence
                assert "is not part of its Galera cluster" in sentence and "DB_HOST" in sentence
                with closing(backend.connect()) as connection, pytest.raises(pymysql.Error) as caught:
                    connection.cursor().execute("SELECT * FROM users")
                assert backend.classify_error(caught.value) is ErrorKind.NOT_IN_CLUSTER
                with pytest.raises(Unavailable):
                    await running.writes.run(add_users, "a")
                with pytest.raises(Unavailable) as read:
                    await running.reads.fetch_raw("SELECT * FROM users")
                assert backend.classify_error(cause_of(read.value)) is ErrorKind.NOT_IN_CLUSTER
            finally:
                with waiting(settings, caplog) as said:
                    assert "is not part of its Galera cluster" in said[0]
                    await asyncio.to_thread(join_cluster, node)
            await running.writes.run(add_users, "a")
            assert len(await running.reads.fetch_raw("SELECT * FROM users")) == 1


def cause_of(error: BaseException) -> BaseException:
    assert error.__cause__
    return error.__cause__


def test_the_version_table_of_a_node_without_its_cluster_needs_no_grant(
    node: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.restart()
    database = node.create_database()
    cli_service = CliService(tmp_path / "demo", database, monkeypatch)
    cli_service.tables(USERS)
    cli_service.revision()
    cli_service.upgrade()
    leave_cluster(node)
    try:
        with pytest.raises(StartupError) as caught:
            startup.checked_revision(cli_service.service, cli_service.backend)
    finally:
        join_cluster(node)
    assert "is not part of its Galera cluster" in str(caught.value)
    assert startup.checked_revision(cli_service.service, cli_service.backend) == "0001_change"
    node.drop_database(database)


# --- the version table


@pytest.fixture
def own_schema(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[CliService, Settings]]:
    """A service whose tables are in a schema of its own, and an account that may do nothing there yet."""
    database = postgresql.create_database()
    cli_service = CliService(tmp_path / "demo", database, monkeypatch)
    cli_service.options = {"schema": "own"}
    cli_service.tables(USERS)
    cli_service.revision()
    account = f"{database.name}-rw"
    postgresql.query(f"CREATE ROLE \"{account}\" LOGIN PASSWORD 'x'")
    yield cli_service, Settings.load({**cli_service.environ, "DB_USER": account, "DB_PASS": "x"})
    postgresql.drop_database(database)
    postgresql.query(f'DROP ROLE "{account}"')


def test_each_reason_to_see_no_version_table_is_a_sentence(own_schema: tuple[CliService, Settings]) -> None:
    cli_service, settings = own_schema
    service, account = cli_service.service, settings.db_user

    def said() -> str:
        with pytest.raises(StartupError) as caught:
            startup.checked_revision(service, service.backend(settings))
        return str(caught.value)

    def run(sql: str) -> None:
        with closing(cli_service.database.connect()) as connection:
            connection.cursor().execute(sql)
            connection.commit()

    assert said() == "The database has no schema own yet: run `make migrate` first."
    cli_service.upgrade()
    assert said() == (
        f'The account {account} may not use the schema own: GRANT USAGE ON SCHEMA "own" TO "{account}".'
    )
    run(f'GRANT USAGE ON SCHEMA "own" TO "{account}"')
    assert said() == f"Cannot read the table alembic_version_demo: the account {account} needs SELECT on it."
    run(f'GRANT SELECT ON own.alembic_version_demo TO "{account}"')
    assert startup.checked_revision(service, service.backend(settings)) == "0001_change"
    run("DROP TABLE own.alembic_version_demo")
    assert said() == "The database has no tables of demo yet: run `make migrate` first."
