"""Startup of the process: the errors that it retries, and those that it reports at once."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dbservice.backends import backend_for
from dbservice.settings import Settings
from dbservice.testing import servers
from dbservice.testing.servers import Server

from ..faults import Proxy, wait_until
from ..sample_service import PATIENT
from .service_process import Process, environ_of


def assert_one_line(process: Process, *words: str) -> None:
    """Assert that it ended with exit code 1 and one line that holds these words, so without a retry."""
    assert process.wait() == 1
    (line,) = process.said()
    for word in words:
        assert word in line


def test_a_wrong_password_is_reported_at_once(server_settings: Settings, tmp_path: Path) -> None:
    environ = environ_of(server_settings, DB_PASS="not-the-one", DB_MAX_RETRIES="50", DB_RETRY_DELAY="3600")
    with Process(tmp_path, environ) as process:
        assert_one_line(process, "sample: Cannot use ", server_settings.db_user, "check DB_USER and DB_PASS")
        assert "not-the-one" not in process.said()[0]


def test_a_missing_database_is_reported_at_once(server_settings: Settings, tmp_path: Path) -> None:
    environ = environ_of(server_settings, DB_NAME="not_there", DB_MAX_RETRIES="50", DB_RETRY_DELAY="3600")
    with Process(tmp_path, environ) as process:
        assert_one_line(process, "sample: Cannot use ", "not_there", "check DB_NAME")


def test_a_start_without_a_database_is_given_up_after_the_last_retry(
    server_settings: Settings, tmp_path: Path
) -> None:
    environ = environ_of(
        server_settings, DB_PORT=str(servers.free_port()), DB_MAX_RETRIES="2", DB_RETRY_DELAY="0.1"
    )
    with Process(tmp_path, environ) as process:
        assert process.wait() == 1
        *waiting, last = process.said()
    assert len(waiting) == 2 and all("waiting for" in line for line in waiting)
    assert last.startswith("sample: Cannot use ") and "after 3 attempts" in last


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_start_that_waits_ends_on_a_signal(
    server_settings: Settings, tmp_path: Path, how: signal.Signals
) -> None:
    environ = environ_of(
        server_settings, DB_PORT=str(servers.free_port()), DB_MAX_RETRIES="9", DB_RETRY_DELAY="3600"
    )
    with Process(tmp_path, environ) as process:
        wait_until(process.said)
        process.signal(how)
        assert process.wait() == 128 + how
        assert len(process.said()) == 1


def test_a_database_without_tables_is_reported_at_once(server_settings: Settings, tmp_path: Path) -> None:
    versions = tmp_path / "migrations/versions"
    versions.mkdir(parents=True)
    (versions / "0001_first.py").write_text(
        "revision, down_revision = '0001', None\n\n\ndef upgrade():\n    pass\n\n\ndef downgrade():\n    pass\n"
    )
    with Process(tmp_path, environ_of(server_settings)) as process:
        assert_one_line(process, "sample: ", "run `make migrate` first")


def test_a_port_in_use_is_reported(server_settings: Settings, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ("serve", "--port", str(taken.getsockname()[1]))
        with Process(tmp_path, environ_of(server_settings), *words) as process:
            assert process.wait() == 1
            assert any("address already in use" in line for line in process.said())
            assert not any("Traceback" in line for line in process.said())


# --- a server that does not answer, a table that is locked


@contextmanager
def version_table(server: Server, settings: Settings, folder: Path) -> Iterator[None]:
    """The service has a revision, at which the database is."""
    versions = folder / "migrations/versions"
    versions.mkdir(parents=True)
    (versions / "0001_first.py").write_text(
        "revision, down_revision = '0001', None\n\n\ndef upgrade():\n    pass\n\n\ndef downgrade():\n    pass\n"
    )
    with closing(backend_for(settings).connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE alembic_version_sample (version_num VARCHAR(32) PRIMARY KEY)")
        cursor.execute("INSERT INTO alembic_version_sample VALUES ('0001')")
        try:
            yield
        finally:
            cursor.execute("DROP TABLE alembic_version_sample")


@contextmanager
def locked_version_table(server: Server, settings: Settings) -> Iterator[None]:
    lock = {
        "postgresql": "BEGIN; LOCK TABLE alembic_version_sample IN ACCESS EXCLUSIVE MODE",
        "mysql": f"LOCK TABLES `{settings.db_name}`.alembic_version_sample WRITE",
    }
    with closing(replace(server.admin, name=settings.db_name).connect()) as connection:
        connection.cursor().execute(lock[server.type])
        yield


async def test_a_start_waits_while_the_version_table_is_locked(
    server: Server, server_settings: Settings, tmp_path: Path
) -> None:
    environ = environ_of(server_settings, DB_MAX_RETRIES="1000", DB_RETRY_DELAY="0.1")
    with version_table(server, server_settings, tmp_path):
        with (
            locked_version_table(server, server_settings),
            Process(tmp_path, environ, limits={**PATIENT, "connect": 1.0}) as process,
        ):
            wait_until(process.said)
            assert "waiting for " in process.said()[0] and "is locked" in process.said()[0]
            assert not process.listens()
            process.signal(signal.SIGTERM)
            assert process.wait() == 143
        with Process(tmp_path, environ) as process:
            async with process.client() as client:
                await process.becomes(200, client)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_start_that_waits_for_a_lock_ends_on_a_signal(
    server: Server, server_settings: Settings, tmp_path: Path, how: signal.Signals
) -> None:
    with (
        version_table(server, server_settings, tmp_path),
        locked_version_table(server, server_settings),
        Proxy(server_settings) as proxy,
    ):
        proxy.hold_at("version_num")
        ends_at_once(proxy, tmp_path, how)


STEPS = {
    "postgresql": ["{user}", "SELECT set_config", "SELECT 1", "read_only"],
    "mysql": ["{user}", "SET SESSION sql_mode", "SHOW GLOBAL STATUS", "READ ONLY"],
}


@pytest.mark.parametrize("step", range(4), ids=["login", "session", "health", "reads"])
def test_a_start_ends_on_a_signal_wherever_the_server_hangs(
    server: Server, server_settings: Settings, tmp_path: Path, step: int
) -> None:
    with Proxy(server_settings) as proxy:
        proxy.hold_at(STEPS[server.type][step].format(user=server_settings.db_user))
        ends_at_once(proxy, tmp_path, signal.SIGTERM)


def ends_at_once(proxy: Proxy, folder: Path, how: signal.Signals) -> None:
    """A start ends on a signal, although it would wait for minutes."""
    with Process(folder, environ_of(proxy.settings), limits={**PATIENT, "connect": 600.0}) as process:
        assert proxy.held.wait(60), process.said()
        begun = time.monotonic()
        process.signal(how)
        assert process.wait() == 128 + how
        assert time.monotonic() - begun < 10
        assert not any("Traceback" in line for line in process.said())


@pytest.mark.parametrize("step", range(4), ids=["login", "session", "health", "reads"])
def test_a_server_that_hangs_is_reported_in_time(
    server: Server, server_settings: Settings, tmp_path: Path, step: int
) -> None:
    with Proxy(server_settings) as proxy:
        proxy.hold_at(STEPS[server.type][step].format(user=server_settings.db_user))
        environ = environ_of(proxy.settings, DB_MAX_RETRIES="1", DB_RETRY_DELAY="0.1")
        with Process(tmp_path, environ, limits={**PATIENT, "connect": 0.5, "statement": 0.5}) as process:
            assert process.wait() == 1
            *before, last = process.said()
            assert any("waiting for " in line for line in before)
            assert "Cannot use " in last and "after 2 attempts" in last
