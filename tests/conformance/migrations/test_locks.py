"""One migration of a service at a time, and no table locked for longer than it must."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import pymysql
import pytest

from dbservice import migrations
from dbservice.errors import StartupError
from dbservice.settings import Settings

from ...cli_service import CliService, CommandLine
from ...faults import wait_until
from ...sample_service import metadata
from .live_tables import BEFORE, ONE, names


def test_two_migrations_at_once_take_turns(cli_service: CliService, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cli_service.use(metadata)
    cli_service.revision()
    caplog.clear()
    with ThreadPoolExecutor(2) as both:
        with cli_service.backend.migrations.lock("demo", 1):
            done = [both.submit(cli_service.upgrade) for _ in range(2)]
            time.sleep(1.5)
            assert [each.done() for each in done] == [False, False] and names(cli_service) == set()
        for each in done:
            each.result(timeout=60)
    assert len([line for line in caplog.messages if line.startswith("Running upgrade")]) == 1
    assert cli_service.differences() == []


def test_processes_at_once_succeed(cli_service: CliService) -> None:
    cli_service.use(metadata)
    cli_service.revision()
    said = cli_service.migrate_at_once(2)
    assert {code for code, _, _ in said} == {0}, said
    assert sum("Running upgrade" in err for _, _, err in said) == 1


def refused(cli_service: CliService, seconds: float) -> str:
    """What a migration says that waits for the lock in vain."""
    impatient = Settings.load({**cli_service.environ, "MIGRATE_LOCK_TIMEOUT": str(seconds)})
    with pytest.raises(StartupError) as caught:
        migrations.upgrade(cli_service.service, cli_service.service.backend(impatient))
    return str(caught.value)


def test_a_lock_that_is_held_too_long_is_one_sentence(cli_service: CliService) -> None:
    cli_service.tables(ONE)
    cli_service.revision()
    with cli_service.backend.migrations.lock("demo", 1):
        sentence = refused(cli_service, 0.5)
    assert sentence.startswith(
        "Another migration of demo has held the lock for 0.5 seconds: wait until it has ended, or set"
        " MIGRATE_LOCK_TIMEOUT to wait longer."
    )
    cli_service.upgrade()


@pytest.mark.engines("postgresql", "mariadb", "mysql")  # nobody knows who has locked a file
def test_it_says_how_to_end_the_session_that_holds_the_lock(cli_service: CliService) -> None:
    cli_service.tables(ONE)
    cli_service.revision()
    with cli_service.backend.migrations.lock("demo", 1) as lock:
        (statement,) = re.findall(r" If it hangs, end it: (.*)\.$", refused(cli_service, 0))
        with closing(cli_service.database.connect()) as operator:
            operator.cursor().execute(statement)
        with pytest.raises((psycopg2.Error, pymysql.Error)):
            lock.is_held()
        cli_service.upgrade()


def test_a_migration_with_nothing_to_do_takes_no_lock(cli_service: CliService, run: CommandLine) -> None:
    cli_service.tables(ONE)
    cli_service.revision("first")
    cli_service.upgrade()
    with cli_service.backend.migrations.lock("demo", 1):
        for arguments in ([], ["--to", "head"], ["--to", "0001_first"], ["--to", "0001"]):
            code, out, err = run("migrate", *arguments, MIGRATE_LOCK_TIMEOUT="0")
            assert code == 0 and "is at revision 0001_first" in out, err
    cli_service.migrate_to("base")
    with cli_service.backend.migrations.lock("demo", 1):
        cli_service.migrate_to("base")


@pytest.mark.engines("postgresql", "mariadb", "mysql")  # a file is one service's
def test_another_service_does_not_wait(cli_service: CliService) -> None:
    cli_service.tables(ONE)
    cli_service.revision()
    impatient = Settings.load({**cli_service.environ, "MIGRATE_LOCK_TIMEOUT": "0"})
    with cli_service.backend.migrations.lock("other", 1):
        migrations.upgrade(cli_service.service, cli_service.service.backend(impatient))


def test_a_timeout_inside_a_migration_is_no_lock_timeout(
    cli_service: CliService, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli_service.tables(ONE)
    cli_service.revision()

    def slow(*_: Any) -> None:
        raise TimeoutError("something else")

    monkeypatch.setattr("alembic.command.upgrade", slow)
    with pytest.raises(TimeoutError, match="something else"):
        cli_service.upgrade()


@pytest.mark.engines("postgresql")
def test_a_table_in_use_does_not_block_other_sessions(cli_service: CliService) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision()
    cli_service.upgrade()
    cli_service.tables(BEFORE.replace("nick = Column(String(20)", "nick = Column(String(30)"))
    cli_service.revision()
    with closing(cli_service.database.connect()) as reader, closing(cli_service.database.connect()) as second:
        reader.cursor().execute("SELECT * FROM users")  # a transaction that stays open
        migrating = threading.Thread(target=cli_service.upgrade)
        migrating.start()
        cursor = second.cursor()
        wait_until(lambda: waiting(cursor))
        cursor.execute("SET statement_timeout = '60s'")
        cursor.execute("SELECT * FROM users")  # waits behind the migration, which gives up first
        second.rollback()
        reader.rollback()
        migrating.join(timeout=60)
        assert not migrating.is_alive()
    assert cli_service.differences() == []


def waiting(cursor: Any) -> bool:
    """Whether somebody waits for a lock in this database of PostgreSQL."""
    cursor.execute(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
        " WHERE datname = current_database() AND NOT granted"
    )
    return bool(cursor.fetchone()[0])


@pytest.mark.engines("mysql", "mariadb")
def test_a_table_in_use_is_waited_for(cli_service: CliService, caplog: pytest.LogCaptureFixture) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    cli_service.tables(BEFORE.replace("nick = Column(String(20)", "nick = Column(String(30)"))
    cli_service.revision("second")
    with closing(cli_service.database.connect()) as reader, ThreadPoolExecutor(1) as other:
        reader.cursor().execute("SELECT * FROM users")  # a transaction that stays open
        migrating = other.submit(cli_service.upgrade)
        wait_until(lambda: "retrying" in caplog.text)
        reader.rollback()
        migrating.result(timeout=60)
    assert any("lock timeout: the tables are in use, retrying" in line for line in caplog.messages)
    assert cli_service.differences() == [] and "alembic_journal_demo" not in names(cli_service)
