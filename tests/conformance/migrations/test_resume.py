"""An interrupted revision continues where it stopped, on MySQL and MariaDB, which cannot roll back DDL, and on PostgreSQL,
where a step outside of a transaction commits what was before it."""

from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import migrations
from dbservice.errors import StartupError

from ...cli_service import CliService
from .live_tables import BEFORE, change_things, clear, connected, fill, names, the_checks_hold


@pytest.mark.parametrize(
    "way", ["an enum loses a value", "a unique after a new column", "a dropped column before"]
)
def test_a_failed_revision_resumes_after_its_cause_is_fixed(cli_service: CliService, way: str) -> None:
    change, mend = {
        "an enum loses a value": (('Enum("a", "b")', 'Enum("a")'), "UPDATE users SET {order} = 'a'"),
        "a unique after a new column": (
            (
                'about = Column(Text(), nullable=False, default="it\'s \\\\ é")',
                'about = Column(String(20), nullable=False, default="x", unique=True)\n    new = Column(Date(), nullable=True)',
            ),
            "UPDATE users SET about = email",
        ),
        "a dropped column before": (
            ('nullable=True)\n    order = Column(', 'nullable=True)\n    new = Column(Date(), nullable=True)\n    order = Column('),
            "DELETE FROM posts WHERE id > 1",
        ),
    }[way]  # fmt: skip
    before = (
        BEFORE.replace("about = Column(Text()", "about = Column(String(20)") if "unique" in way else BEFORE
    )
    after = BEFORE.replace(*change)
    assert after != BEFORE
    if "dropped" in way:  # in another table, whose revision comes first
        before = (
            BEFORE
            + 'class Archive(Table, name="archive"): x = Column(Integer(), nullable=True); y = Column(Integer(), nullable=True)\n'
        )
        after = (
            after + 'class Archive(Table, name="archive"): x = Column(Integer(), nullable=True)\n'
        ).replace(
            "title = Column(String(20), nullable=False, index=True",
            "title = Column(String(20), nullable=False, unique=True",
        )
    cli_service.tables(before)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    if "unique" in way:
        change_things(cli_service, "UPDATE users SET about = 'same'")
    if "dropped" in way:
        change_things(cli_service, "UPDATE posts SET title = 'same'")
    cli_service.tables(after)
    cli_service.revision("second")
    for _ in range(2):
        with pytest.raises(StartupError, match="database error: ") as caught:
            cli_service.upgrade()
        goes_on = "stay executed" in str(caught.value) and "continues there" in str(caught.value)
        # PostgreSQL takes back what it has not committed for a step outside of a transaction
        expected = {"mysql": [True], "postgresql": [True, False], "sqlite": [False]}
        assert goes_on in expected[cli_service.database.type], caught.value
        assert migrations.current(cli_service.service, cli_service.backend) == "0001_first"
    with connected(cli_service) as connection:
        quote = connection.dialect.identifier_preparer.quote
    change_things(cli_service, mend.format(order=quote("order")))
    cli_service.upgrade()
    assert cli_service.differences() == []
    the_checks_hold(cli_service)
    assert not [name for name in names(cli_service) if "half" in name]
    clear(cli_service)
    cli_service.migrate_to("base")
    cli_service.upgrade()
    assert cli_service.differences() == []


REVISION = """
import sqlalchemy as sa
from alembic import op

from dbservice import types

revision = "{revision}"
down_revision = {before!r}


def upgrade() -> None:
    {body}


def downgrade() -> None:
    op.drop_table("half")
"""


def write_revision(cli_service: CliService, revision: str, before: str | None, *body: str) -> None:
    text = REVISION.format(revision=revision, before=before, body="\n    ".join(body))
    (cli_service.versions / f"{revision}.py").write_text(text)


def test_statements_of_a_failed_revision_run_once(cli_service: CliService) -> None:
    write = 'op.execute("INSERT INTO half (a) VALUES (1)")'
    body = ['op.create_table("half", sa.Column("a", types.Integer()))', write, write]
    write_revision(
        cli_service,
        "0001",
        None,
        *body,
        'op.add_column("half", sa.Column("b", types.Integer()))',
        write + " # two",
        "1 / 0",
    )
    for _ in range(2):
        with pytest.raises(StartupError, match="ZeroDivisionError: division by zero"):
            cli_service.upgrade()
    # mended in the file: what was done is passed over, what is new is done
    write_revision(
        cli_service,
        "0001",
        None,
        *body,
        'op.add_column("half", sa.Column("b", types.Integer()))',
        'op.execute("INSERT INTO half VALUES (2, 2)")',
    )
    cli_service.upgrade()
    with connected(cli_service) as connection:
        assert connection.exec_driver_sql("SELECT a, b FROM half ORDER BY a").fetchall() == [
            (1, None),
            (1, None),
            (2, 2),
        ]
    assert names(cli_service) == {"half", "alembic_version_demo"}


@pytest.mark.engines("mysql", "mariadb")
def test_an_interrupted_revision_whose_file_is_gone_is_named(
    cli_service: CliService, caplog: pytest.LogCaptureFixture
) -> None:
    write_revision(cli_service, "0001", None, "pass")
    cli_service.upgrade()
    write_revision(
        cli_service, "0002", "0001", 'op.create_table("half", sa.Column("a", types.Integer()))', "1 / 0"
    )
    with pytest.raises(StartupError, match="ZeroDivisionError"):
        cli_service.upgrade()
    (cli_service.versions / "0002.py").unlink()
    caplog.clear()
    cli_service.upgrade()
    assert caplog.messages == [
        "a revision was interrupted and its file does not exist any more: alembic_journal_demo lists the statements that it executed"
    ]
    write_revision(cli_service, "0002", "0001", 'op.create_table("whole", sa.Column("a", types.Integer()))')
    cli_service.upgrade()
    said = [message for message in caplog.messages if "stays executed" in message]
    assert len(said) == 1 and "CREATE TABLE `half`" in said[0] and "\n" not in said[0]
    assert names(cli_service) == {"half", "whole", "alembic_version_demo"}


@pytest.mark.engines("mysql", "mariadb")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_killed_migration_resumes(
    cli_service: CliService, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after a statement of which nobody can say whether it was done."""
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    engine = cli_service.backend
    made = engine.migrations.engine()
    monkeypatch.setattr(engine.migrations, "engine", lambda: made)

    def kill(connection: sa.Connection, cursor: Any, statement: str, *_: Any) -> None:
        if "INDEX `ix_posts_title`" in statement:
            cursor.connection._force_close()
            raise KeyboardInterrupt

    sa.event.listen(made, f"{moment}_cursor_execute", kill)
    with pytest.raises(KeyboardInterrupt):
        migrations.upgrade(cli_service.service, engine)
    assert (
        "posts" in names(cli_service) and migrations.current(cli_service.service, cli_service.backend) is None
    )
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert names(cli_service) == {"users", "posts", "alembic_version_demo"}
