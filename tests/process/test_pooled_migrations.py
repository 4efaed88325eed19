"""Migrations behind a PgBouncer that gives the server's session to another client after each transaction."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from dbservice.testing import plugin
from dbservice.testing.plugin import fresh_database

from ..bouncer import pgbouncer
from ..cli_service import CliService
from ..conformance.migrations.live_tables import BEFORE, connected, fill, names
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
    said = pooled.migrate_at_once(3)
    assert {code for code, _, _ in said} == {0}, said
    assert sum("Running upgrade  -> 0001" in err for _, _, err in said) == 1
    assert sum("Running upgrade 0001 -> 0002" in err for _, _, err in said) == 1


def test_a_killed_holder_does_not_keep_the_lock(pooled: CliService) -> None:
    revision = write_revision(pooled, "0001", None, CREATE.format("first"), "wait_for_test()")
    runner = pooled.start("migrate")
    pooled.wait_for(revision, runner)
    runner.kill()
    runner.communicate()
    revision.with_suffix(".go").touch()
    pooled.upgrade()
    assert "first" in names(pooled)


def test_a_transaction_has_its_settings_in_any_session(pooled: CliService) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(closing(pooled.database.connect())) for _ in range(2)]
        others[0].cursor().execute("CREATE SCHEMA elsewhere")
        others[0].commit()
        for other in others:  # each in a session of its own, which it leaves like this
            other.cursor().execute("SET search_path = elsewhere")
        for other in others:
            other.commit()
        connection = stack.enter_context(connected(pooled))
        others[0].cursor().execute("SELECT 1")  # keeps the session that the migration has set up
        settings = "SELECT current_schema(), current_setting('lock_timeout')"
        assert connection.exec_driver_sql(settings).one() == ("public", "3s")


def test_a_table_in_use_is_changed_in_any_session(pooled: CliService) -> None:
    pooled.tables(BEFORE)
    pooled.revision("first")
    pooled.upgrade()
    fill(pooled, 4)
    with ExitStack() as stack:
        others = [stack.enter_context(closing(pooled.database.connect())) for _ in range(3)]
        others[0].cursor().execute("CREATE SCHEMA elsewhere")
        others[0].commit()
        for other in others:
            other.cursor().execute("SET search_path = elsewhere")
        for other in others:
            other.commit()
        pooled.tables(
            BEFORE.replace(
                "nick = Column(String(20), nullable=True",
                'nick = Column(String(20), nullable=False, default="x", index=True',
            )
            .replace('Enum("a", "b")', 'Enum("a", "b", "c")')
            .replace("age = Column(Integer()", "age = Column(Integer(), unique=True")
            .replace(
                "    title =",
                '    owner_id = Column(BigInteger(), ForeignKey("users.id"), nullable=True); title =',
            )
        )
        pooled.revision("second")
        pooled.upgrade()
        for other in others:
            other.cursor().execute("SELECT 1")
    assert pooled.differences() == []
