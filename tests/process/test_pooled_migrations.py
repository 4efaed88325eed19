"""Migrations behind a PgBouncer that gives the server's session to another client after each transaction."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dbservice.testing import plugin
from dbservice.testing.plugin import fresh_database

from ..bouncer import pgbouncer
from ..cli_service import CliService
from ..conformance.migrations.live_tables import change_things, names
from ..conformance.migrations.written_revisions import write_revision

CREATE = 'op.create_table("{}", sa.Column("a", types.Integer()))'
CONCURRENTLY = (
    "with op.get_context().autocommit_block():"
    ' op.create_index("ix", "first", ["a"], postgresql_concurrently=True)'
)


@pytest.fixture
def pooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[CliService]:
    """A service that reaches its database through the pooler."""
    plugin.find_server("postgresql", request.config)
    with (
        fresh_database("postgresql", tmp_path, request.config) as database,
        pgbouncer(database, "transaction") as port,
    ):
        yield CliService(tmp_path / "demo", replace(database, port=port), monkeypatch)


def test_one_session_holds_the_lock(pooled: CliService) -> None:
    migrations = pooled.backend.migrations
    with migrations.lock("demo", 0) as held:
        with pytest.raises(TimeoutError), migrations.lock("demo", 0.5):
            pass
        assert held.is_held()
    with migrations.lock("demo", 0):
        pass


def test_processes_at_once_take_turns(pooled: CliService) -> None:
    write_revision(pooled, "0001", None, CREATE.format("first"), CONCURRENTLY, CREATE.format("second"))
    write_revision(pooled, "0002", "0001", CREATE.format("third"))
    runners = [pooled.start("migrate") for _ in range(3)]
    said = [each.communicate(timeout=60) for each in runners]
    assert [each.returncode for each in runners] == [0] * 3, said
    assert sum("Running upgrade  -> 0001" in err for _, err in said) == 1
    assert sum("Running upgrade 0001 -> 0002" in err for _, err in said) == 1


def test_a_killed_holder_does_not_keep_the_lock(pooled: CliService) -> None:
    revision = write_revision(pooled, "0001", None, CREATE.format("first"), "wait_for_test()")
    runner = pooled.start("migrate")
    pooled.wait_for(revision, runner)
    runner.send_signal(signal.SIGKILL)
    runner.communicate()
    revision.with_suffix(".go").touch()
    pooled.upgrade()
    assert "first" in names(pooled)


def test_the_tables_are_in_the_schema_whatever_session_a_transaction_gets(pooled: CliService) -> None:
    write_revision(pooled, "0001", None, CREATE.format("first"))
    # what another client has left to the session
    change_things(pooled, "CREATE SCHEMA elsewhere", "SET search_path = elsewhere")
    pooled.upgrade()
    change_things(pooled, "SELECT 1 FROM public.first")
