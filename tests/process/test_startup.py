"""Startup of the process: the errors that it retries, and those that it reports at once."""

import signal
import socket
from pathlib import Path

import pytest

from dbservice.settings import Settings
from dbservice.testing import servers
from dbservice.testing.servers import Server

from ..faults import Proxy, wait_until
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
@pytest.mark.parametrize("port", ["DB_PORT", "DB_READ_PORT"])
def test_a_start_that_waits_ends_on_a_signal(
    server_settings: Settings, tmp_path: Path, port: str, how: signal.Signals
) -> None:
    environ = environ_of(
        server_settings, **{port: str(servers.free_port())}, DB_MAX_RETRIES="9", DB_RETRY_DELAY="3600"
    )
    with Process(tmp_path, environ) as process:
        wait_until(process.said)
        process.signal(how)
        assert process.wait() == 128 + how
        assert len(process.said()) == 1


async def test_a_replica_that_comes_late_is_waited_for(
    server: Server, server_settings: Settings, tmp_path: Path
) -> None:
    port = servers.free_port()
    environ = environ_of(
        server_settings, DB_READ_PORT=str(port), DB_MAX_RETRIES="10000", DB_RETRY_DELAY="0.1"
    )
    with Process(tmp_path, environ) as process:
        wait_until(process.said)
        assert f":{port}/" in process.said()[0] and "waiting for " in process.said()[0]
        with Proxy(server_settings, port=port):
            async with process.client() as client:
                await process.becomes(200, client)


def test_a_start_without_a_replica_is_given_up_after_the_last_retry(
    server_settings: Settings, tmp_path: Path
) -> None:
    port = servers.free_port()
    environ = environ_of(server_settings, DB_READ_PORT=str(port), DB_MAX_RETRIES="1", DB_RETRY_DELAY="0.1")
    with Process(tmp_path, environ) as process:
        assert process.wait() == 1
        last = process.said()[-1]
    assert last.startswith("sample: Cannot use ") and f":{port}/" in last
    assert "Connection refused" in last


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
