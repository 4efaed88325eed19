"""A service behind a PgBouncer that keeps a session of the server for each client, or for each transaction only."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dbservice.errors import StartupError
from dbservice.settings import Settings
from dbservice.startup import wait_for_database
from dbservice.testing import plugin
from dbservice.testing.plugin import fresh_database
from dbservice.testing.servers import Server

from ..bouncer import pgbouncer
from ..cli_service import CliService, served_cli_service
from ..conformance.migrations.live_tables import names
from ..conformance.migrations.written_revisions import executing, write_revision
from ..faults import slow, wait_until

USERS = 'class Users(Table, name="users"): email = Column(String(40)); token = Column(String(40), nullable=True, secret=True)\n'


@pytest.fixture
def postgresql(request: pytest.FixtureRequest) -> Server:
    return plugin.find_server("postgresql", request.config)


@contextmanager
def pooled(
    mode: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: pytest.Config
) -> Iterator[CliService]:
    """A service with a schema of its own, whose account finds the tables of another one where nothing says otherwise."""
    with fresh_database("postgresql", tmp_path, config) as database:
        with closing(database.connect()) as direct:
            direct.cursor().execute("CREATE TABLE public.users (email text)")
            direct.commit()
        with pgbouncer(database, mode, pool_size=size) as port:
            made = CliService(tmp_path / "demo", replace(database, port=port), monkeypatch)
            made.options = {"schema": "own"}
            made.tables("")
            yield made


@pytest.fixture
def by_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgresql: Server, request: pytest.FixtureRequest
) -> Iterator[CliService]:
    with pooled("transaction", 3, tmp_path, monkeypatch, request.config) as made:
        yield made


@pytest.mark.parametrize(("mode", "size"), [("session", 20), ("transaction", 3)])
async def test_a_service_reads_writes_and_migrates_behind_pgbouncer(
    mode: str,
    size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgresql: Server,
    pytestconfig: pytest.Config,
) -> None:
    names = ("TimeZone", "search_path", "statement_timeout", "default_transaction_isolation")
    settings = f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}"
    with (
        pooled(mode, size, tmp_path, monkeypatch, pytestconfig) as service,
        closing(service.database.connect()) as other,
    ):
        other.autocommit = True
        cursor = other.cursor()
        cursor.execute(settings)
        left = cursor.fetchone()
        async with served_cli_service(service, USERS) as (client, running):
            assert (await client.get("/readyz")).status_code == 200

            async def write_and_read(number: int) -> Any:
                new = {"email": f"{number}@example", "token": "t"}
                created = await client.post("/v1/users", json=new)
                read = await client.get(f"/v1/users/{created.json().get('id', 0)}")
                assert (created.status_code, read.status_code) == (201, 200), (created.text, read.text)
                return read.json()["email"]

            assert len(set(await asyncio.gather(*(write_and_read(n) for n in range(60))))) == 60
            expected = ("UTC", '"own"', "10s", "read committed")
            assert tuple((await running.reads.fetch_raw(settings))[0]) == expected
            assert tuple(await running.writes.run(lambda db: db.executesql(settings)[0])) == expected
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await running.reads.fetch_raw("DELETE FROM users")
        cursor.execute("SELECT (SELECT count(*) FROM own.users), (SELECT count(*) FROM public.users)")
        assert cursor.fetchone() == (60, 0)
        cursor.execute(settings)
        assert cursor.fetchone() == left  # nothing is left to the clients that get the session next


def test_a_signal_cancels_a_migration_behind_pgbouncer(
    by_transaction: CliService, postgresql: Server
) -> None:
    statement = f"op.execute({slow(Settings.load(by_transaction.environ), 300)!r})"
    write_revision(
        by_transaction, "0001", None, 'op.create_table("first", sa.Column("a", types.Integer()))', statement
    )
    process = by_transaction.start("migrate")
    name = by_transaction.database.name
    wait_until(lambda: executing(postgresql, name) or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143, err
    assert not executing(postgresql, name)
    assert "first" not in names(by_transaction)
    with by_transaction.backend.migrations.lock("demo", 0):
        pass


def test_an_index_is_created_concurrently_where_the_account_has_the_search_path(
    by_transaction: CliService, postgresql: Server
) -> None:
    write_revision(
        by_transaction, "0001", None, 'op.create_table("users", sa.Column("email", types.String(40)))'
    )
    concurrently = 'op.create_index("ix", "users", ["email"], postgresql_concurrently=True)'
    write_revision(
        by_transaction, "0002", "0001", f"with op.get_context().autocommit_block(): {concurrently}"
    )
    user = by_transaction.database.user
    with pytest.raises(StartupError, match=f'ALTER ROLE "{user}" SET search_path = "own"'):
        by_transaction.upgrade()
    postgresql.query(f'ALTER ROLE "{user}" SET search_path = own')
    postgresql.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
        by_transaction.database.name,
    )
    by_transaction.upgrade()
    rows = postgresql_rows(by_transaction, "SELECT schemaname FROM pg_indexes WHERE indexname = 'ix'")
    assert rows == [("own",)]


def postgresql_rows(service: CliService, sql: str) -> list[Any]:
    with closing(service.database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        rows: list[Any] = cursor.fetchall()
        return rows


def test_a_pooler_without_transactions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgresql: Server, pytestconfig: pytest.Config
) -> None:
    with pooled("statement", 3, tmp_path, monkeypatch, pytestconfig) as service:
        with pytest.raises(StartupError, match="set its pool_mode to transaction or session"):
            wait_for_database(service.backend)
        write_revision(service, "0001", None, 'op.create_table("first", sa.Column("a", types.Integer()))')
        code, _, err = service.run("migrate")
        assert code == 1 and "pool_mode" in err
