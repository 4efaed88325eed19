"""`migrate` as a process that is told to stop: the server cancels its statement, and the lock is free again."""

import signal
import subprocess

import pytest

from dbservice.settings import Settings
from dbservice.testing import servers

from ..cli_service import CliService
from ..conformance.migrations.live_tables import names
from ..conformance.migrations.written_revisions import executing, write_revision
from ..faults import Proxy, slow, wait_until

CREATE = 'op.create_table("{}", sa.Column("a", types.Integer()))'
REACHED = 'Path(__file__).with_suffix(".reached").touch()'
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> servers.Server | None:
    engine = request.node.callspec.params["private_database"]
    return None if engine == "sqlite" else servers.find(engine)


def start_long_migration(
    cli_service: CliService, server: servers.Server | None, **environ: str
) -> "subprocess.Popen[str]":
    """A migration that has created a table and executes a statement of several minutes."""
    statement = f"op.execute({slow(Settings.load(cli_service.environ), 300)!r})"
    revision = write_revision(cli_service, "0001", None, CREATE.format("first"), REACHED, statement)
    process = cli_service.start("migrate", **environ)
    wait_until(lambda: revision.with_suffix(".reached").exists() or process.poll() is not None)
    if server is not None:
        wait_until(lambda: executing(server, cli_service.database.name) or process.poll() is not None)
    return process


def end(process: "subprocess.Popen[str]", how: signal.Signals) -> tuple[int, str, list[str]]:
    """Send the signal; the exit code, and what the process wrote on standard output and standard error."""
    process.send_signal(how)
    try:
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, out, err.splitlines()


@pytest.mark.parametrize("how", CODES, ids=lambda how: how.name)
def test_a_signal_cancels_the_statement_in_the_server(
    cli_service: CliService, server: servers.Server | None, how: signal.Signals
) -> None:
    code, out, err = end(start_long_migration(cli_service, server), how)
    assert (code, out) == (CODES[how], ""), err
    assert server is None or not executing(server, cli_service.database.name)
    with cli_service.backend.migrations.lock("demo", 0):
        pass
    assert not [line for line in err if "Traceback" in line]
    # the signal may come just before the statement: then nothing is cancelled in the server, and nothing has failed
    ends = ("The migration failed at 0001.py, line ", "The migration was cancelled.")
    (failed,) = (line for line in err if any(end in line for end in ends))
    if cli_service.database.type == "mysql":  # whose DDL cannot be rolled back
        assert "The statements before it stay executed" in failed
    else:
        assert "first" not in names(cli_service)
    write_revision(cli_service, "0001", None, CREATE.format("first"), CREATE.format("second"))
    cli_service.upgrade()
    assert {"first", "second"} <= names(cli_service)


def test_a_signal_ends_the_wait_for_the_lock(cli_service: CliService) -> None:
    write_revision(cli_service, "0001", None, CREATE.format("first"))
    with cli_service.backend.migrations.lock("demo", 0):
        process = cli_service.start("migrate")
        assert process.stderr
        line = process.stderr.readline()
        assert line.endswith("waiting: another migration of demo holds the lock\n")
        code, out, err = end(process, signal.SIGTERM)
    assert (code, out) == (143, "") and not [line for line in err if "Traceback" in line]


def test_a_killed_process_does_not_keep_the_lock(cli_service: CliService) -> None:
    body = (CREATE.format("first"), "wait_for_test()", CREATE.format("second"))
    revision = write_revision(cli_service, "0001", None, *body)
    process = cli_service.start("migrate")
    cli_service.wait_for(revision, process)
    process.kill()
    process.communicate()
    revision.with_suffix(".go").touch()
    cli_service.upgrade()
    assert {"first", "second"} <= names(cli_service)


@pytest.mark.engines("sqlite")
def test_a_signal_ends_a_revision_that_is_busy_in_python(cli_service: CliService) -> None:
    revision = write_revision(cli_service, "0001", None, CREATE.format("first"), "wait_for_test()")
    process = cli_service.start("migrate")
    wait_until(revision.with_suffix(".reached").exists)
    assert end(process, signal.SIGTERM)[:2] == (143, "")
    assert "first" not in names(cli_service)
    revision.with_suffix(".go").touch()
    cli_service.upgrade()


@pytest.mark.engines("postgresql", "mariadb", "mysql")
def test_a_signal_ends_a_migration_whose_server_does_not_answer(
    cli_service: CliService, server: servers.Server
) -> None:
    with Proxy(Settings.load(cli_service.environ)) as proxy:
        where = {"DB_HOST": proxy.settings.db_host, "DB_PORT": str(proxy.settings.db_port)}
        process = start_long_migration(cli_service, server, **where)
        proxy.hold()
        assert end(process, signal.SIGTERM)[:2] == (143, "")


@pytest.mark.engines("postgresql")
def test_a_signal_cancels_the_statement_when_no_connection_is_free(
    cli_service: CliService, server: servers.Server
) -> None:
    account = cli_service.database.user
    process = start_long_migration(cli_service, server)
    server.query(f'ALTER ROLE "{account}" CONNECTION LIMIT 2')  # the lock's and the migration's
    code, _, err = end(process, signal.SIGTERM)
    server.query(f'ALTER ROLE "{account}" CONNECTION LIMIT -1')
    assert code == 143 and "canceling statement due to user request" in "\n".join(err)
    assert not executing(server, cli_service.database.name)
