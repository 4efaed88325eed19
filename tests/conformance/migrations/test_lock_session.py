"""The session that holds the migration lock: it outlives the server's idle timeouts, and no migration goes on without it."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dbservice import migrations
from dbservice.errors import StartupError
from dbservice.settings import Settings
from dbservice.testing import servers

from ...cli_service import CliService
from ...faults import kill, sessions, slow, wait_until
from .live_tables import names
from .written_revisions import executing, write_revision

SERVERS = pytest.mark.engines("postgresql", "mariadb", "mysql")
CREATE = 'op.create_table("{}", sa.Column("a", types.Integer()))'
LOST = (
    "The migration lock of demo was lost, because its connection ended, its file was removed or another migration took it"
    " over. Run the migration again."
)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> servers.Server | None:
    engine = request.node.callspec.params["private_database"]
    return None if engine == "sqlite" else servers.find(engine)


def lose_lock(cli_service: CliService, server: servers.Server | None) -> None:
    """End the session that holds the lock, as an administrator would; on SQLite, remove its file."""
    settings = Settings.load(cli_service.environ)
    if server is None:
        Path(f"{settings.db_name}.lock").unlink()
        return
    if server.type == "postgresql":
        sql = (
            "SELECT pid FROM pg_locks JOIN pg_database ON pg_locks.database = pg_database.oid"
            " WHERE locktype = 'advisory' AND datname = %s"
        )
        found = server.query(sql, settings.db_name)
    else:
        found = server.query("SELECT IS_USED_LOCK(%s)", f"{settings.db_name}.migrate demo")
    session = int(found[0][0])
    kill(server, session)
    wait_until(lambda: session not in sessions(server, settings))


@contextmanager
def migrating(cli_service: CliService, revision: Path) -> Iterator["Future[None]"]:
    """`upgrade` in another thread, while `revision` waits for the test; it goes on when the block ends, if not before."""
    with ThreadPoolExecutor(1) as other:
        done = other.submit(cli_service.upgrade)
        try:
            wait_until(lambda: done.done() or revision.with_suffix(".reached").exists())
            yield done
        finally:
            revision.with_suffix(".go").touch()


@SERVERS
def test_it_outlives_the_idle_timeout_of_the_server(
    cli_service: CliService, server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every session begins with an idle timeout of a second."""
    connect: Any = type(cli_service.backend).connect
    timeouts = (
        ("idle_session_timeout = '1s'", "idle_in_transaction_session_timeout = '1s'")
        if server.type == "postgresql"
        else ("SESSION wait_timeout = 1",)
    )

    def connect_with_timeout(*arguments: Any, autocommit: bool = True, **options: Any) -> Any:
        connection = connect(*arguments, autocommit=autocommit, **options)
        if autocommit:  # the sessions that run revisions are never idle for long
            for timeout in timeouts:
                connection.cursor().execute(f"SET {timeout}")
        return connection

    monkeypatch.setattr(type(cli_service.backend), "connect", connect_with_timeout)
    revision = write_revision(cli_service, "0001", None, "wait_for_test()")
    settings = Settings.load(cli_service.environ)
    with migrating(cli_service, revision) as done:
        before = set(sessions(server, settings))
        with closing(cli_service.backend.connect()):
            (idle,) = set(sessions(server, settings)) - before
            wait_until(lambda: idle not in sessions(server, settings))
            with pytest.raises(TimeoutError), cli_service.backend.migrations.lock("demo", 0):
                pass
        revision.with_suffix(".go").touch()
        done.result(timeout=60)


def test_a_migration_whose_lock_was_lost_stops(
    cli_service: CliService, server: servers.Server | None
) -> None:
    body = (CREATE.format("first"), "wait_for_test()", CREATE.format("second"))
    revision = write_revision(cli_service, "0001", None, *body)
    write_revision(cli_service, "0002", "0001", CREATE.format("third"))
    with migrating(cli_service, revision) as done:
        lose_lock(cli_service, server)
        revision.with_suffix(".go").touch()
        with pytest.raises(StartupError) as caught:
            done.result(timeout=60)
    assert str(caught.value) == LOST
    assert migrations.current(cli_service.service, cli_service.backend) is None
    assert not {"second", "third"} & names(cli_service)
    cli_service.upgrade()
    assert {"first", "second", "third"} <= names(cli_service)


def test_a_lock_that_was_lost_after_the_last_statement_stops_it_too(
    cli_service: CliService, server: servers.Server | None
) -> None:
    revision = write_revision(cli_service, "0001", None, CREATE.format("first"), "wait_for_test()")
    with migrating(cli_service, revision) as done:
        lose_lock(cli_service, server)
        revision.with_suffix(".go").touch()
        with pytest.raises(StartupError) as caught:
            done.result(timeout=60)
    assert str(caught.value) == LOST
    assert migrations.current(cli_service.service, cli_service.backend) is None
    cli_service.upgrade()
    assert migrations.current(cli_service.service, cli_service.backend) == "0001"


def test_a_long_statement_is_cancelled_when_the_lock_is_lost(
    cli_service: CliService, server: servers.Server | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbservice.migrations.locking.CHECK_INTERVAL", 0.1)
    statement = f"op.execute({slow(Settings.load(cli_service.environ), 300)!r})"
    revision = write_revision(cli_service, "0001", None, "wait_for_test()", statement)
    with migrating(cli_service, revision) as done:
        revision.with_suffix(".go").touch()
        wait_until(lambda: server is None or executing(server, cli_service.database.name))
        lose_lock(cli_service, server)
        with pytest.raises(StartupError) as caught:
            done.result(timeout=60)
    assert str(caught.value) == LOST


def test_the_operator_says_how_long_to_wait_for_it(cli_service: CliService) -> None:
    write_revision(cli_service, "0001", None, CREATE.format("first"))
    with cli_service.backend.migrations.lock("demo", 1):
        code, out, err = cli_service.run("migrate", MIGRATE_LOCK_TIMEOUT="0.5")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(
        "demo: Another migration of demo has held the lock for 0.5 seconds: wait until it has ended, or set"
        " MIGRATE_LOCK_TIMEOUT to wait longer."
    )
