"""CREATE INDEX CONCURRENTLY that meets a lock timeout: the next run, or the next attempt, goes on by itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dbservice import Limits
from dbservice.errors import StartupError

from ...cli_service import CliService
from ...faults import wait_until
from .live_tables import ONE

pytestmark = pytest.mark.engines("postgresql")

REVISION = """
from alembic import op

revision = "0002"
down_revision = "0001_first"


def upgrade():
    with op.get_context().autocommit_block():
        op.create_index("ix_users_email", "users", ["email"], postgresql_concurrently=True)


def downgrade():
    op.drop_index("ix_users_email", "users")
"""
STATE = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_users_email')"


@pytest.fixture
def indexed(cli_service: CliService) -> CliService:
    """A service whose second revision creates an index concurrently, at its first one."""
    cli_service.tables(ONE)
    cli_service.revision("first")
    cli_service.upgrade()
    (cli_service.versions / "0002.py").write_text(REVISION)
    return cli_service


@contextmanager
def locked(cli_service: CliService) -> Iterator[Any]:
    """A transaction that CREATE INDEX CONCURRENTLY must wait for."""
    connection = cli_service.database.connect()
    connection.cursor().execute(
        "INSERT INTO users (email, created_at, updated_at) VALUES ('a', now(), now())"
    )
    try:
        yield connection
    finally:
        connection.close()


def state(cli_service: CliService) -> list[Any]:
    connection = cli_service.database.connect()
    cursor = connection.cursor()
    cursor.execute(STATE)
    found = cursor.fetchall()
    connection.close()
    return [valid for (valid,) in found]


def test_the_next_run_replaces_the_invalid_index(indexed: CliService) -> None:
    indexed.variables["MIGRATE_LOCK_TIMEOUT"] = "0"
    indexed.options["limits"] = Limits(migration_lock=0.5)
    indexed.tables(ONE)
    with locked(indexed), pytest.raises(StartupError, match="lock timeout"):
        indexed.upgrade()
    assert state(indexed) == [False]
    indexed.upgrade()
    assert state(indexed) == [True]


def test_an_index_waits_for_a_long_transaction(indexed: CliService, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits behind it, so that it has the time of MIGRATE_LOCK_TIMEOUT: to build it again would take longer."""
    indexed.options["limits"] = Limits(migration_lock=0.1)
    indexed.tables(ONE)
    with locked(indexed) as connection:
        running = threading.Thread(target=indexed.upgrade)
        running.start()
        wait_until(lambda: state(indexed) == [False], 60)
        running.join(0.5)
        connection.rollback()
        running.join(60)
    assert not running.is_alive() and state(indexed) == [True]
    assert "retrying" not in caplog.text


def test_an_index_that_was_completed_is_not_created_again(indexed: CliService) -> None:
    indexed.upgrade()
    connection = indexed.database.connect()
    cursor = connection.cursor()
    cursor.execute("UPDATE alembic_version_demo SET version_num = '0001_first'")
    connection.commit()
    connection.close()
    indexed.upgrade()  # as after a run that was killed between the two
    assert state(indexed) == [True]


RAW = 'op.execute("CREATE INDEX CONCURRENTLY {}ix_users_email ON users (email)")'


@pytest.mark.parametrize("words", ["", "IF NOT EXISTS "])
def test_an_index_of_a_hand_written_statement_is_replaced_too(indexed: CliService, words: str) -> None:
    revision = indexed.versions / "0002.py"
    line = next(line for line in REVISION.splitlines() if "op.create_index" in line)
    revision.write_text(REVISION.replace(line.strip(), RAW.format(words)))
    indexed.variables["MIGRATE_LOCK_TIMEOUT"] = "0"
    indexed.options["limits"] = Limits(migration_lock=0.5)
    indexed.tables(ONE)
    with locked(indexed), pytest.raises(StartupError, match="lock timeout"):
        indexed.upgrade()
    assert state(indexed) == [False]
    indexed.upgrade()
    assert state(indexed) == [True]


def test_an_invalid_index_is_missing_to_check_migrations(indexed: CliService) -> None:
    indexed.variables["MIGRATE_LOCK_TIMEOUT"] = "0"
    indexed.options["limits"] = Limits(migration_lock=0.5)
    indexed.tables(ONE.replace("unique=True", "index=True"))
    with locked(indexed), pytest.raises(StartupError, match="lock timeout"):
        indexed.upgrade()
    assert "create_index" in "\n".join(indexed.differences())
    indexed.upgrade()
    assert "create_index" not in "\n".join(indexed.differences())
