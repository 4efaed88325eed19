"""Migrations on a Galera cluster, whose nodes do not know each other's locks."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dbservice import Limits, migrations
from dbservice.backends import Backend
from dbservice.backends.mysql import galera
from dbservice.errors import StartupError
from dbservice.settings import Settings
from dbservice.testing.servers import Server

from ..cli_service import CliService
from ..conformance.migrations.live_tables import BEFORE, change_things, names
from ..conformance.migrations.test_lock_session import LOST, migrating
from ..conformance.migrations.written_revisions import write_revision
from ..galera import galera_cluster

CREATE = 'op.create_table("{}", sa.Column("a", types.Integer()))'


@pytest.fixture(scope="module")
def nodes(request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    with galera_cluster(request.config) as started:
        yield started


@pytest.fixture
def cli_service(nodes: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliService]:
    """A service that reaches the cluster through its first node."""
    database = nodes[0].create_database()
    yield CliService(tmp_path / "demo", database, monkeypatch)
    nodes[0].drop_database(database)


def backend_at(cli_service: CliService, node: Server, **environ: str) -> Backend:
    """The backend of the service at another node."""
    there = replace(cli_service.database, port=node.port).environ()
    return cli_service.service.backend(Settings.load({**there, **environ}))


def test_processes_on_all_nodes_apply_each_revision_once(
    cli_service: CliService, nodes: list[Server]
) -> None:
    tables = [CREATE.format(f"t{number}") for number in range(4)]
    columns = [f'op.add_column("t0", sa.Column("c{number}", types.Integer()))' for number in range(4)]
    indexes = [f'op.create_index("ix{number}", "t0", ["c{number}"])' for number in range(4)]
    write_revision(cli_service, "0001", None, *tables, *columns, *indexes)
    write_revision(cli_service, "0002", "0001", CREATE.format("last"))
    said = cli_service.migrate_at_once(4, [node.port for node in nodes])
    assert {code for code, _, _ in said} == {0}, said
    assert all("is at revision 0002" in out for _, out, _ in said)
    assert sum("Running upgrade  -> 0001" in err for _, _, err in said) == 1
    assert sum("Running upgrade 0001 -> 0002" in err for _, _, err in said) == 1
    assert "alembic_journal_demo" not in names(cli_service)


def test_a_lock_on_one_node_is_one_on_all(cli_service: CliService, nodes: list[Server]) -> None:
    write_revision(cli_service, "0001", None, CREATE.format("first"))
    impatient = backend_at(cli_service, nodes[1], MIGRATE_LOCK_TIMEOUT="0.5")
    with cli_service.backend.migrations.lock("demo", 5) as held:
        with pytest.raises(StartupError) as caught:
            migrations.upgrade(cli_service.service, impatient)
        assert held.is_held()
    hint = re.escape(f"end process {os.getpid()} on host {socket.gethostname()}, 15 seconds")
    assert re.search(rf"has held the lock for 0.5 seconds: .* {hint}", str(caught.value))
    migrations.upgrade(cli_service.service, impatient)
    with cli_service.backend.migrations.lock("demo", 5):  # there is nothing to do, and nothing to wait for
        migrations.upgrade(cli_service.service, impatient)


def test_it_says_that_a_change_of_a_large_table_stops_the_cluster(
    cli_service: CliService, caplog: pytest.LogCaptureFixture
) -> None:
    cli_service.options["limits"] = Limits(large_table=1)
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    said = r"the next statement changes users \(0 MB\), and a Galera cluster takes no writes to any table meanwhile"
    new, indexed = (
        "year = Column(Integer(), nullable=True",
        "year = Column(Integer(), nullable=True, index=True",
    )
    for column, times in ((new, 0), (indexed, 1)):  # the first is done in an instant
        caplog.clear()
        cli_service.tables(BEFORE.replace("age = ", f"{column}); age = "))
        cli_service.revision("change")
        cli_service.upgrade()
        assert len(re.findall(said, caplog.text)) == times, caplog.messages
    assert cli_service.differences() == []


def test_the_lock_of_a_killed_process_is_taken_over(
    cli_service: CliService, nodes: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = write_revision(
        cli_service, "0001", None, CREATE.format("first"), "wait_for_test()", CREATE.format("second")
    )
    runner = cli_service.start("migrate")
    cli_service.wait_for(revision, runner)
    runner.kill()
    runner.communicate()
    revision.with_suffix(".go").touch()
    monkeypatch.setattr(galera, "LEASE", 1.0)
    migrations.upgrade(cli_service.service, backend_at(cli_service, nodes[2]))
    assert {"first", "second"} <= names(cli_service)


def test_a_migration_whose_lock_was_taken_over_stops(
    cli_service: CliService, nodes: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a pause of its process or machine."""
    monkeypatch.setattr("dbservice.migrations.locking.CHECK_INTERVAL", 3600)
    monkeypatch.setattr(galera, "LEASE", 1.0)
    body = (CREATE.format("first"), "wait_for_test()", CREATE.format("second"))
    revision = write_revision(cli_service, "0001", None, *body)
    with (
        migrating(cli_service, revision) as done,
        backend_at(cli_service, nodes[1]).migrations.lock("demo", 60),
    ):
        revision.with_suffix(".go").touch()
        with pytest.raises(StartupError) as caught:
            done.result(timeout=60)
    assert str(caught.value) == LOST
    assert "second" not in names(cli_service)
    cli_service.upgrade()
    assert {"first", "second"} <= names(cli_service)


def test_the_lock_is_free_at_once_after_a_migration(cli_service: CliService, nodes: list[Server]) -> None:
    write_revision(cli_service, "0001", None, CREATE.format("first"))
    cli_service.upgrade()
    with backend_at(cli_service, nodes[1]).migrations.lock("demo", 5):
        pass
    with closing(cli_service.database.connect()) as connection, connection.cursor() as cursor:
        assert not cursor.execute("SELECT * FROM alembic_lock_demo")


def test_a_migration_sees_what_another_node_has_just_committed(
    cli_service: CliService, nodes: list[Server]
) -> None:
    write_revision(cli_service, "0001", None, CREATE.format("first"))
    first, *others = (backend_at(cli_service, node) for node in nodes)
    for _ in range(10):
        migrations.upgrade(cli_service.service, first)
        assert [migrations.current(cli_service.service, each) for each in others] == ["0001", "0001"]
        change_things(cli_service, "DELETE FROM alembic_version_demo", "DROP TABLE first")
        assert [migrations.current(cli_service.service, each) for each in others] == [None, None]
